"""Size and average colour of a picture: the smallest model that looks at pixels."""

from PIL import Image, ImageOps


class Predictor:
    def load(self):
        self.mode = "RGB"

    def predict(self, request):
        # The bytes arrive as they were sent: turn phone photos upright, and make every picture three-channel.
        image = ImageOps.exif_transpose(Image.open(request.file)).convert(self.mode)
        red, green, blue = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        return {"size": image.size, "colour": f"#{red:02x}{green:02x}{blue:02x}"}
