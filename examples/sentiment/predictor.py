"""How does a text sound? VADER's lexicon comes with its package; slang.json adds words of your own."""

import json
from pathlib import Path

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


class Predictor:
    def load(self):
        self.analyzer = SentimentIntensityAnalyzer()
        self.analyzer.lexicon |= json.loads(Path(__file__).with_name("slang.json").read_text())

    def predict(self, request):
        score = self.analyzer.polarity_scores(request.payload["text"])["compound"]
        mood = "positive" if score >= 0.05 else "negative" if score <= -0.05 else "neutral"
        return {"mood": mood, "score": score}
