"""How a program uses an exported model: what goes in, what comes out, a few lines of Python; one for each format."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tuner.export.formats import recipe
from tuner.report.markdown import fenced

if TYPE_CHECKING:
    from tuner.export.checking import Exported

CODE = {
    "keras": """\
import keras, numpy as np
from PIL import Image, ImageOps

model = keras.models.load_model(FILE)
classes = model.get_layer("classes").bias_initializer.value
photograph = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
print(classes, model.predict(np.asarray(photograph)[None]))
""",
    "savedmodel": """\
import json, numpy as np, tensorflow as tf
from PIL import Image, ImageOps

model = tf.saved_model.load(FILE)
classes = json.load(open(FILE + "/assets.extra/tlstudy.json"))["classes"]
photograph = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
print(classes, model.serve(np.asarray(photograph, np.float32)[None]))
""",
    "onnx": """\
import json, numpy as np, onnxruntime
from tuner.images.decode import load_photograph, to_square

session = onnxruntime.InferenceSession(FILE)
about = json.loads(session.get_modelmeta().custom_metadata_map["tlstudy"])
square = to_square(load_photograph("photo.jpg"), about["image_size"], about["resize"])
print(about["classes"], session.run(None, {"square": square[None].astype(np.float32)})[0])
""",
    "litert": """\
import json, zipfile, numpy as np
from ai_edge_litert.interpreter import Interpreter
from tuner.images.decode import load_photograph, to_square

about = json.loads(zipfile.ZipFile(FILE).read("tlstudy.json"))
square = to_square(load_photograph("photo.jpg"), about["image_size"], about["resize"])
answer = Interpreter(model_path=FILE).get_signature_runner()(square=square[None].astype(np.float32))
print(about["classes"], answer["output_0"])
""",
}


def usage(exported: Exported) -> str:
    """What goes in and comes out, as Markdown; `tlstudy predict` comes first because it does all of it."""
    side, name = exported.contents.image_size, exported.path.name
    if exported.kind.squares:
        takes = (
            f"Takes `square`, float32 (batch, {side}, {side}, 3): RGB from 0 to 255. It does not resize: "
            f"{recipe(exported.contents)}. `tlstudy predict` does this, and so do `load_photograph` and `to_square` in "
            "the lines below."
        )
    else:
        dtype = "uint8 or float32" if exported.kind.name == "keras" else "float32"
        takes = (
            f"Takes {dtype} (batch, height, width, 3): RGB from 0 to 255, upright, of any size. It resizes to "
            f"{side} x {side} pixels and preprocesses itself."
        )
    gives = (
        f"Gives float32 (batch, {len(exported.contents.classes)}): the probability of each class, in the order below."
    )
    return "\n\n".join(
        [
            f"{takes} {gives}",
            fenced(f"tlstudy predict {shlex.quote(name)} photo.jpg"),
            fenced(CODE[exported.kind.name].replace("FILE", repr(name)), "python"),
        ]
    )
