"""The device page in a browser tab, its web server, and its test photo and reference images."""

import base64
import functools
import http.server
import io
import re
import threading

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

SIDE = 32  # px of the tests' tiny model
FILES = [  # of the page
    "app.js",
    "calls.js",
    "cascade.js",
    "compare.js",
    "editing.js",
    "example.js",
    "face_crop.js",
    "face_detection.js",
    "face_finder.js",
    "face_worker.js",
    "frame.js",
    "gray.js",
    "history.js",
    "icon.svg",
    "icons/any-192.png",
    "icons/any-512.png",
    "icons/maskable-512.png",
    "index.html",
    "inputs.js",
    "litert/LICENSE.txt",
    "litert/NOTICE.txt",
    "litert/index.js",
    "litert/litert_wasm_compat_internal.js",
    "litert/litert_wasm_compat_internal.wasm",
    "litert/litert_wasm_internal.js",
    "litert/litert_wasm_internal.wasm",
    "litert/wasm-utils.js",
    "manifest.webmanifest",
    "model.js",
    "model.json",
    "model.tflite",
    "offline.js",
    "photo.js",
    "pixels.js",
    "queue.js",
    "rules.js",
    "sample.js",
    "screen.js",
    "sliders.js",
    "state.js",
    "storage.js",
    "strip.js",
    "style.css",
    "text.js",
    "worker.js",
]


class Server:
    """`python -m http.server` in a thread, which records all requests."""

    def __init__(self, folder):
        requests = self.requests = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(self, code="-", size="-"):
                requests.append((self.command, self.path.lstrip("/"), int(code)))

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def to_text(array):
    """An array's bytes as base64; lists of numbers would be too slow to pass to the page."""
    return base64.b64encode(array.tobytes()).decode()


def from_text(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


class Tab:
    """A tab with the page; records its errors and its network requests."""

    def __init__(self, browser, url, prepare=lambda page: None, **options):
        self.context = browser.new_context(**options)
        self.errors, self.requests = [], []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        prepare(self.page)
        self.page.goto(url)

    def _note(self, message):
        # LiteRT logs everything as errors; ignore its informational lines.
        if message.type == "error" and not re.match(r"(INFO|WARNING): ", message.text):
            self.errors.append(message.text)

    def ready(self):
        self.page.evaluate("editor.ready.then(() => undefined)")
        return self

    def status(self):
        return self.page.inner_text("#status")

    def run(self, signature, **inputs):
        """The page's own `editor.run`."""
        texts = {name: to_text(value) for name, value in inputs.items()}
        script = """async ([signature, inputs]) => {
            for (const name in inputs) {
                inputs[name] = new Float32Array(Uint8Array.fromBase64(inputs[name]).buffer);
            }
            const outputs = await editor.run(signature, inputs);
            for (const name in outputs) {
                outputs[name] = new Uint8Array(outputs[name].buffer).toBase64();
            }
            return outputs;
        }"""
        outputs = self.page.evaluate(script, [signature, texts])
        return {name: from_text(text, np.float32) for name, text in outputs.items()}

    def idle(self):
        self.page.evaluate("editor.idle()")

    def upload(self, content, name="photo.png"):
        self.page.set_input_files(
            "#file", {"name": name, "mimeType": "image/png", "buffer": content}
        )
        self.idle()

    def wait_until(self, condition):
        """Polls; Playwright's own wait needs eval(), which the page's policy forbids."""
        self.page.evaluate(f"""async () => {{
            while (!({condition})) await new Promise((resolve) => setTimeout(resolve, 10));
        }}""")

    def input(self):
        """The model's latest input, float32 `[R, R, 3]`."""
        text = self.page.evaluate("new Uint8Array(editor.input().buffer).toBase64()")
        return from_text(text, np.float32).reshape(SIDE, SIDE, 3)

    def canvas(self, name):
        """A canvas's pixels, uint8 `[H, W, 4]`."""
        script = """(name) => {
            const canvas = document.getElementById(name);
            const context = canvas.getContext("2d");
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, canvas.height, new Uint8Array(data.buffer).toBase64()];
        }"""
        width, height, text = self.page.evaluate(script, name)
        return from_text(text, np.uint8).reshape(height, width, 4)

    def move(self, attribute, strength):
        self.page.evaluate("([name, value]) => editor.move(name, value)", [attribute, strength])

    def frame(self):
        """Left, top and side of the frame in the photo's px."""
        return self.page.evaluate("""() => {
            const { left, top, width } = document.getElementById("frame").style;
            const { width: across, height: down } = document.getElementById("photo");
            const share = (text) => parseFloat(text) / 100;
            return [share(left) * across, share(top) * down, share(width) * across];
        }""")


# ---- photos ------------------------------------------------------------------------------------


def encoded(pixels, **options):
    """A PNG file of uint8 pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", **options)
    return file.getvalue()


def make_photo(width, height, seed=0):
    """A smooth color photo that differs everywhere: uint8 `[height, width, 3]`."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (9, 9, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


PIXELS = make_photo(150, 110)
PHOTO = encoded(PIXELS)


# ---- reference images --------------------------------------------------------------------------


def runner(content, signature):
    interpreter = Interpreter(model_content=content)
    return interpreter.get_signature_runner(signature)


def generate_in_python(content, image, strengths):
    """The edited image of Python's interpreter for an image `[R, R, 3]`: float32 `[R, R, 3]`."""
    code = runner(content, "encode")(image=image[None])
    values = np.float32([strengths])
    (image,) = runner(content, "generate")(**code, strengths=values).values()
    return image[0]


def close(one, two, levels=1):
    return np.abs(np.int16(one) - np.int16(two)).max() <= levels
