"""Add a board that Stack does not know: one TOML file. Models are compiled for it, fitted into its memories, built, run and flashed.

Run it: python tutorials/04_add_a_board.py

It needs gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-system-arm and make (`stackc doctor` says what is missing), and from PyPI
onnxruntime, which quantises the model.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import stack
from stack.errors import DoesNotFit

# 1. The board. ST's STM32VLDISCOVERY has a Cortex-M3 and no more than 8 KB of RAM. Each number comes from a document; say which.
BOARD = """\
# The board: ST's manual UM0919. The chip, STM32F100RB: datasheet of the STM32F100xB (memories), manual RM0041 (registers, interrupts).
# QEMU: hw/arm/stm32vldiscovery.c (its clock). Not tried on the board itself.
summary = "ST STM32VLDISCOVERY: STM32F100RB, Cortex-M3, up to 24 MHz"
core = "cortex-m3"                     # `stackc targets` lists the cores: instructions, registers, FPU

[board]
clock_hz = 24_000_000
interrupts = 61                        # the chip's own; the vector table has so many entries
qemu = "stm32vldiscovery"              # `qemu-system-arm -M help` lists its machines; without this line `stackc run` needs the board
flash_with = { tool = "openocd", interface = "interface/stlink.cfg", target = "target/stm32f1x.cfg" }
# The serial line of `stackc run --port`. Leave out these two lines and nothing else is lost.
uart = { driver = "stm32", base = 0x4001_3800, divider = 69 }   # USART1: 8 MHz, the clock after reset, / 115200
setup = [
  ["write", 0x4002_1018, 0x0000_4004, 0x0000_4004],             # RCC_APB2ENR: GPIOA and USART1
  ["write", 0x4001_0804, 0x0000_0FF0, 0x0000_04B0],             # GPIOA_CRH: PA9 alternate output, PA10 input
]

[[memory]]                             # the first flash and the first ram are where a firmware goes
name = "flash"
kind = "flash"
base = 0x0800_0000
bytes = 0x2_0000                       # 128 KB

[[memory]]
name = "ram"
kind = "ram"
base = 0x2000_0000
bytes = 0x2000                         # 8 KB
"""

# 2. Two models: one net, for images of 16 x 16 and of 32 x 32 pixels. Its weights, and the images by which it is quantised, are random.
rng = np.random.default_rng(0)
weights = {
    "filters": rng.standard_normal((12, 1, 3, 3), np.float32) * 0.3,
    "bias": rng.standard_normal(12, np.float32) * 0.1,
    "classes": rng.standard_normal((12, 4), np.float32),
}


class Images(CalibrationDataReader):
    def __init__(self, side: int) -> None:
        self.feeds = iter([{"image": rng.standard_normal((1, 1, side, side), np.float32)} for _ in range(20)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def quantised_net(side: int, folder: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["image", "filters", "bias"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["strongest"], kernel_shape=[side, side]),
        helper.make_node("Flatten", ["strongest"], ["flat"]),
        helper.make_node("Gemm", ["flat", "classes"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 1, side, side))
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 4))
    graph = helper.make_graph(nodes, "spot", [image], [scores], [numpy_helper.from_array(w, name) for name, w in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "float.onnx")
    quant_pre_process(folder / "float.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
    file = folder / f"spot{side}.onnx"
    int8 = QuantType.QInt8
    quantize_static(folder / "prepared.onnx", file, Images(side), per_channel=True, activation_type=int8, weight_type=int8)
    return file


def stackc(*words: str | Path) -> str:
    """What `stackc words...` prints."""
    return subprocess.run([sys.executable, "-m", "stack.cli", *words], check=True, capture_output=True, text=True).stdout


with tempfile.TemporaryDirectory() as place:
    work = Path(place)
    board = work / "stm32vldiscovery.toml"
    board.write_text(BOARD)

    # 3. Wherever a command wants a target, the file may stand: stackc compile spot16.onnx -t stm32vldiscovery.toml -o spot/
    file = quantised_net(16, work)
    library = stack.compile(file, str(board))
    project = work / "spot"
    library.save(project)
    print(
        f"{file.name} needs {library.manifest['arena_bytes']:,} bytes of RAM, and {library.manifest['weight_bytes']:,} of flash for weights"
    )

    # 4. What cannot fit is refused here, before any C compiler runs, with the layer that is to blame. 2 KB are kept free for the stack.
    refused = ""
    try:
        stack.compile(quantised_net(32, work), str(board))
    except DoesNotFit as error:
        refused = str(error)
    print(f"\n{refused}\n")
    assert "bytes of RAM, and stm32vldiscovery has 6,144 for it" in refused
    assert "max_pool2d [1,32,32,12] -> [1,1,1,12] needs output of layer 2 12,288" in refused

    # 5. The project is a whole firmware: start-up code, the board's linker script, and a main.c to begin with.
    print((project / "board.ld").read_text().split("ENTRY")[0].strip())
    subprocess.run(["make", "-C", project, "--silent"], check=True)
    assert (project / "spot16.elf").is_file()

    # 6. Run it, in the QEMU machine that the file names. The scores are ONNX Runtime's, but for a step of their scale here and there.
    image = rng.standard_normal((1, 1, 16, 16), np.float32)
    firmware = library.run({"image": image})["scores"]
    (expected,) = onnxruntime.InferenceSession(file).run(None, {"image": image})
    (step,) = (numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer if each.name == "scores_scale")
    print("\nfirmware    ", firmware.round(3), "\nONNX Runtime", expected.round(3))
    assert abs(firmware - expected).max() <= 1.01 * step
    print(f"{sum(library.profile({'image': image})):,.0f} instructions")

    # 7. Flash it. With --dry-run the command is only printed; without, the board must be connected.
    command = stackc("flash", project, "--board", board, "--dry-run")
    print(command.replace(place, "..."), end="")
    assert command.startswith("openocd -f interface/stlink.cfg -f target/stm32f1x.cfg")

    # 8. The project keeps what the file said of the board, and runs without it.
    board.unlink()
    assert np.array_equal(stack.load(project).run({"image": image})["scores"], firmware)

# 9. For everybody: put the file into targets/cortex_m/boards/. `stackc boards` then lists it, it is named without .toml, and the tests
#    build and run a firmware for it and write to each of its memories. CONTRIBUTING.md says what else to look at.
