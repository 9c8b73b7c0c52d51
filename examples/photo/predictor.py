"""Size and average colour of a picture: the smallest model that looks at pixels."""

from PIL import Image


class Predictor:
    def load(self):
        self.average = Image.Resampling.BOX

    def predict(self, request):
        # Upright and RGB, whatever was uploaded: the server has seen to it.
        image = Image.open(request.file)
        red, green, blue = image.resize((1, 1), self.average).getpixel((0, 0))
        return {"size": image.size, "colour": f"#{red:02x}{green:02x}{blue:02x}"}
