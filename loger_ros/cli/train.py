"""``loger train RECIPE``: train from a recipe to a checkpoint, in as many sessions as it takes."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from pathlib import Path
from typing import NoReturn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a YAML file such as config/training/tiny.yaml")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; an unfinished run is continued"
    )
    parser.add_argument(
        "--from",
        dest="start",
        help="tiny, or the path of a checkpoint: a new run starts from its weights, not from random ones",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after this time, including rendering; continue later with the same command",
    )
    parser.add_argument("--variant", default="", help="entry of the recipe's variants to use, such as gpu")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or one GPU such as cuda:1")


def run(args: argparse.Namespace) -> int:
    import torch.distributed as dist

    code = train(args)
    if dist.is_initialized():
        leave(code)
    return code


def leave(code: int) -> NoReturn:
    """End one of several processes immediately, because Python's own exit may abort it.

    DistributedDataParallel keeps the threads of gloo alive, even when their group is destroyed. A thread that
    releases a tensor while the interpreter exits finds no GIL: "terminate called without an active exception"
    (torch 2.13, 5 of 39 small programs).
    """
    import torch.distributed as dist

    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def train(args: argparse.Namespace) -> int:
    from loger_ros.model import CheckpointError
    from loger_ros.model.weights import device_name
    from loger_ros.training.bank import OutOfTime, RunError
    from loger_ros.training.recipe import Recipe, RecipeError
    from loger_ros.training.trainer import Trainer

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        device = device_name(args.device)
    except ValueError as error:
        print(f"loger train: {error}", file=sys.stderr)
        return 1
    try:
        recipe = Recipe.from_yaml(args.recipe, args.variant)
        trainer = Trainer(recipe, args.out, device=device, start=args.start, minutes=args.minutes)
        finished = trainer.run()
    except OutOfTime:
        print("stopped: some clips are still to be rendered; continue with the same command")
        return 0
    except (CheckpointError, RecipeError, RunError) as error:
        print(f"loger train: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        print(
            f"loger train: {args.out}: {error}. Once that is fixed, continue with the same command",
            file=sys.stderr,
        )
        return 1
    print(
        f"{'finished' if finished else 'stopped, continue with the same command'}: {trainer.frames:,} "
        f"frames, checkpoint {args.out / 'model.safetensors'}"
    )
    return 0
