"""Scoring without adae-edge: a script and a program that go from a file to score and verdict.

They do in a few lines what the runtime does before and after the graph. The threshold comes from
the model file, so that they stay right when ``calibrate`` moves it; a score that is no number is
anomalous. Pictures are converted by the rules of ``decoding/images.py``, and the slices of a volume
and their mean and standard deviation are those of ``decoding/nifti.py``.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from adae_edge.contract import Contract
from adae_edge.errors import UsageError
from adae_edge.formats.files import write_atomically

# What both scripts begin with, after their imports.
_OPEN_PY = """\
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
contract = json.loads(session.get_modelmeta().custom_metadata_map["adae_edge.contract"])
threshold = contract["calibration"]["threshold"]
batch = session.get_inputs()[0].shape[0]
count = batch if isinstance(batch, int) else 1  # a number where every run takes as many frames
"""

_PICTURES_PY = Template(
    '''\
"""Scores picture files: python score.py MODEL PICTURE...

Needs numpy, onnxruntime and Pillow, but not adae-edge, which wrote it; it is yours to change.
"""

import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

'''
    + _OPEN_PY
    + """\
for name in sys.argv[2:]:
    picture = Image.open(name)
    pages = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if picture.mode in ("I", "F") or pages > 1:
        sys.exit(f"{name}: save it as one picture with 8 or 16 bits a channel")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):  # the high byte of 16 bits
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    frame = np.asarray(picture.convert("RGB"))  # grey becomes three channels, alpha is dropped
$frame\
    frames = np.repeat(frame[None], count, axis=0)  # uint8 [N, H, W, $channels]
    score = float(session.run(["score"], {"frames": frames})[0][0])
    verdict = "normal" if score <= threshold else "anomalous"
    print(f"{score:.9g} {threshold:.9g} {verdict} {name}")
"""
)

_LUMA_PY = """\
    luma = frame.astype(np.uint32) @ [299, 587, 114]  # ITU-R BT.601
    frame = ((luma + 500) // 1000).astype(np.uint8)[..., None]
"""

_SLICES_PY = (
    '''\
"""Scores the slices of skull-stripped volumes: python score.py MODEL VOLUME.nii.gz...

Needs numpy, onnxruntime and nibabel, but not adae-edge, which wrote it; it is yours to change. A
volume does not tell its scanner. Where it comes from one that the contract's "acquisitions" do not
name, the threshold does not hold, and its slices are neither normal nor anomalous.
"""

import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported
import nibabel
import numpy as np
import onnxruntime

'''
    + _OPEN_PY
    + """\
if contract.get("object") in ("head", "mask"):
    sys.exit("the model looks at whole heads or inside of masks, and this script at brains alone")
side = contract.get("field_of_view")  # mm, or None for whole slices
for name in sys.argv[2:]:
    volume = nibabel.as_closest_canonical(nibabel.load(name))
    # Slices from the feet up, rows from the front, columns from the patient's right.
    slices = np.asarray(volume.dataobj)[::-1, ::-1].transpose(2, 1, 0).astype(np.float32)
    # Background is what fills at least half of the volume's faces, or else 0.
    faces = [slices[[0, -1]], slices[:, [0, -1]], slices[:, :, [0, -1]]]
    values, counts = np.unique(np.concatenate([f.ravel() for f in faces]), return_counts=True)
    brain = slices != (values[counts.argmax()] if 2 * counts.max() >= counts.sum() else 0)
    slices[~brain] = 0
    mean, std = slices[brain].astype(np.float64).mean(), slices[brain].astype(np.float64).std()
    if not (np.isfinite(slices).all() and std > 0):
        sys.exit(f"{name}: it has voxels that are no finite numbers, or shows nothing")
    # The field of view is a square around the brain, whose length leaves outliers out.
    corner, size = [0, 0], list(slices.shape[1:])
    width, height, _ = nibabel.affines.voxel_sizes(volume.affine)  # mm
    for axis, pixel in enumerate((height, width) if side else ()):
        profile = brain.sum(axis=(0, 2 - axis))
        upto, outliers = np.cumsum(profile), 0.005 * profile.sum()
        first = np.searchsorted(upto, outliers, "right")
        end = np.searchsorted(upto, upto[-1] - outliers) + 1
        size[axis] = max(round(side / pixel), 1)
        corner[axis] = int(first + end - size[axis]) // 2
    area = brain.sum(axis=(1, 2))
    for number in np.flatnonzero(area >= 0.2 * area.max()):  # the others show hardly any brain
        frame = np.pad(slices[number], [(pixels, pixels) for pixels in size])
        frame = frame[corner[0] + size[0] :, corner[1] + size[1] :][: size[0], : size[1]]
        frames = np.repeat(frame[None, ..., None], count, axis=0)
        inputs = {
            "frames": frames,  # float32 [N, H, W, 1]
            "mean": np.full(count, mean, np.float32),
            "std": np.full(count, std, np.float32),
        }
        score = float(session.run(["score"], inputs)[0][0])
        verdict = "normal" if score <= threshold else "anomalous"
        print(f"{score:.9g} {threshold:.9g} {verdict} {name} {number}")
"""
)

_BUILD = """\
// It does not need adae-edge, which wrote it; it is yours to change. ORT is the folder of ONNX
// Runtime's C++ release:
//   g++ -std=c++17 -O2 score.cpp -o score -IORT/include -LORT/lib -lonnxruntime -Wl,-rpath,ORT/lib
"""

# The contract is JSON with sorted keys, in which text has its quotes escaped: no text can pass for
# the threshold.
_OPEN_CPP = """\
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
  Ort::Session session(env, arguments[1], Ort::SessionOptions());
  Ort::AllocatorWithDefaultOptions allocator;
  const auto metadata = session.GetModelMetadata();
  auto contract = metadata.LookupCustomMetadataMapAllocated("adae_edge.contract", allocator);
  const char* said = contract ? std::strstr(contract.get(), "\\"threshold\\": ") : nullptr;
  if (!said) throw std::runtime_error(std::string(arguments[1]) + " is no model file of adae-edge");
  const double threshold = std::strtod(said + std::strlen("\\"threshold\\": "), nullptr);
  const auto taken = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  const int64_t batch = std::max<int64_t>(1, taken[0]);  // -1 where a run takes any number
  auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
"""

_PRINT_CPP = """\
    const char* verdict = score <= threshold ? "normal" : "anomalous";
    std::printf("%.9g %.9g %s %s\\n", score, threshold, verdict, arguments[i]);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\\n", error.what());
  return 1;
}
"""

_PICTURES_CPP = Template(
    """\
// Scores pictures: ./score MODEL PICTURE...
//
// Pictures are PGM or PPM files of 8 bits: most image tools write them, and no library is needed to
// read them. For other files or a camera, fill a Picture in place of `read`. OpenCV has blue first,
// and a Picture has red first.
//
"""
    + _BUILD
    + """\
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

constexpr int64_t kChannels = $channels;  // of the model: 1 grey, 3 RGB

struct Picture {
  int64_t height, width, channels;  // 1 grey, 3 RGB
  std::vector<uint8_t> pixels;      // row after row
};

Picture read(const std::string& name) {
  std::ifstream file(name, std::ios::binary);
  std::string kind;
  file >> kind;
  int64_t numbers[3] = {};  // width, height, the largest value
  for (int64_t& number : numbers) {
    while ((file >> std::ws).peek() == '#')
      file.ignore(std::numeric_limits<std::streamsize>::max(), '\\n');
    file >> number;
  }
  const auto [width, height, largest] = numbers;
  if (!file || (kind != "P5" && kind != "P6") || largest != 255 || std::min(width, height) < 1 ||
      std::max(width, height) > 8192 || !std::isspace(file.get()))
    throw std::runtime_error(name + " is no PGM or PPM file of 8 bits");
  Picture picture{height, width, kind == "P6" ? 3 : 1, {}};
  picture.pixels.resize(width * height * picture.channels);
  if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), picture.pixels.size()))
    throw std::runtime_error(name + " is cut short");
  return picture;
}

// Value `channel` of a pixel as the model takes it; grey of a colour is ITU-R BT.601.
uint8_t converted(const uint8_t* pixel, int64_t channels, int64_t channel) {
  if (channels == kChannels) return pixel[channel];
  if (kChannels == 3) return pixel[0];
  return (299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2] + 500) / 1000;
}

int main(int count, char** arguments) try {
  if (count < 3) throw std::runtime_error("usage: score MODEL PICTURE...");
"""
    + _OPEN_CPP
    + """\
  for (int i = 2; i < count; ++i) {
    const Picture picture = read(arguments[i]);
    const int64_t size = picture.height * picture.width * kChannels;
    std::vector<uint8_t> frames(batch * size);
    for (int64_t j = 0; j < batch * size; ++j) {
      const uint8_t* pixel = &picture.pixels[j % size / kChannels * picture.channels];
      frames[j] = converted(pixel, picture.channels, j % kChannels);
    }
    const int64_t shape[] = {batch, picture.height, picture.width, kChannels};
    auto input = Ort::Value::CreateTensor<uint8_t>(memory, frames.data(), frames.size(), shape, 4);
    const char *inputs[] = {"frames"}, *outputs[] = {"score"};
    auto results = session.Run(Ort::RunOptions(), inputs, &input, 1, outputs, 1);
    const double score = results[0].GetTensorData<float>()[0];
"""
    + _PRINT_CPP
)

_SLICES_CPP = (
    """\
// Scores slices of one volume: ./score MODEL HEIGHT WIDTH MEAN STD SLICE...
//
// A slice is a file of HEIGHT x WIDTH float32 values, row after row from the patient's front, each
// from the right, 0 outside of the brain; in Python, array.astype("<f4").tofile(SLICE). It is the
// field of view of a model that has one. MEAN and STD are those of all values of the volume that
// are not 0. score.py beside this file says how slices, mean and std come from a NIfTI volume.
// Where it comes from a scanner that the contract's "acquisitions" do not name, the threshold does
// not hold, and its slices are neither normal nor anomalous.
//
"""
    + _BUILD
    + """\
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

int main(int count, char** arguments) try {
  if (count < 7) throw std::runtime_error("usage: score MODEL HEIGHT WIDTH MEAN STD SLICE...");
"""
    + _OPEN_CPP
    + """\
  const int64_t height = std::stoll(arguments[2]), width = std::stoll(arguments[3]);
  const int64_t size = height * width;
  std::vector<float> mean(batch, std::stof(arguments[4])), std(batch, std::stof(arguments[5]));
  for (int i = 6; i < count; ++i) {
    std::ifstream file(arguments[i], std::ios::binary);
    std::vector<float> frames(batch * size);
    const std::string name = arguments[i];
    if (!file.read(reinterpret_cast<char*>(frames.data()), size * sizeof(float)) ||
        file.peek() != EOF)
      throw std::runtime_error(name + " does not hold HEIGHT x WIDTH float32 values");
    if (!std::all_of(frames.begin(), frames.end(), [](float x) { return std::isfinite(x); }))
      throw std::runtime_error(name + " has values that are no finite numbers");
    for (int64_t j = size; j < batch * size; ++j) frames[j] = frames[j - size];
    const int64_t shape[] = {batch, height, width, 1};
    Ort::Value values[] = {
        Ort::Value::CreateTensor<float>(memory, frames.data(), frames.size(), shape, 4),
        Ort::Value::CreateTensor<float>(memory, mean.data(), mean.size(), shape, 1),
        Ort::Value::CreateTensor<float>(memory, std.data(), std.size(), shape, 1),
    };
    const char *inputs[] = {"frames", "mean", "std"}, *outputs[] = {"score"};
    auto results = session.Run(Ort::RunOptions(), inputs, values, 3, outputs, 1);
    const double score = results[0].GetTensorData<float>()[0];
"""
    + _PRINT_CPP
)


def examples(kind: str, channels: int) -> dict[str, str]:
    """The example's files by name, for models of this kind and number of channels."""
    if kind == "modality":
        return {"score.py": _SLICES_PY, "score.cpp": _SLICES_CPP}
    frame = _LUMA_PY if channels == 1 else ""
    return {
        "score.py": _PICTURES_PY.substitute(frame=frame, channels=channels),
        "score.cpp": _PICTURES_CPP.substitute(channels=channels),
    }


def check_examples(folder: Path) -> None:
    """Make sure that ``write_examples`` overwrites nothing but examples that nobody has changed.

    Raises:
        UsageError: a file in the folder is not one of these, or the folder is none.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder: the example is two files, score.py and score.cpp")
    ours = [examples("image", 1), examples("image", 3), examples("modality", 1)]
    for name in ours[0]:
        path = folder / name
        if path.exists() and path.read_bytes() not in [example[name].encode() for example in ours]:
            raise UsageError(
                f"{path} is there and not as --example writes it: choose another folder for the "
                "example"
            )


def write_examples(contract: Contract, folder: Path) -> list[Path]:
    """Write score.py and score.cpp, which score with model files of this contract.

    The folder is made.

    Raises:
        UsageError: as ``check_examples``.
        WriteError: a file cannot be written.
    """
    check_examples(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in examples(contract.kind, contract.channels).items():
        write_atomically(folder / name, text.encode())
        written.append(folder / name)
    return written
