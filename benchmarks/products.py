"""Time a bare matrix product, [rows, dimension] by [dimension, columns] in single precision, block by block of rows.

    python -m benchmarks.products --rows 100000 --columns 10000 --dimension 512

It prints the seconds. It is the limit of nearest neighbours and of k-means, and a program of its own, as PyTorch and
faiss bring different CUDA libraries.
"""

import argparse
import subprocess
import sys

from benchmarks.rows import timed

BLOCK_BYTES = 2**28
"""Of products at once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--columns", type=int, required=True)
    parser.add_argument("--dimension", type=int, required=True)
    parser.add_argument("--times", type=int, default=1, help="the product is made, one after the other (default: 1)")
    arguments = parser.parse_args()

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    block = max(1, BLOCK_BYTES // (4 * arguments.columns))
    left = torch.randn(block, arguments.dimension, device=device)
    right = torch.randn(arguments.dimension, arguments.columns, device=device)
    found = torch.empty(block, arguments.columns, device=device)

    def product() -> None:
        for _ in range(arguments.times):
            for start in range(0, arguments.rows, block):
                rows = min(block, arguments.rows - start)
                torch.mm(left[:rows], right, out=found[:rows])
        if device == "cuda":
            torch.cuda.synchronize()

    torch.mm(left, right, out=found)  # to warm up
    print(timed(product))


def seconds(rows: int, columns: int, dimension: int, times: int = 1) -> float:
    """What this program prints of ``times`` products."""
    command = [sys.executable, "-m", "benchmarks.products", "--rows", str(rows), "--columns", str(columns)]
    command += ["--dimension", str(dimension), "--times", str(times)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    main()
