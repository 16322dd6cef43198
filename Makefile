# Each target first makes the environment, unless that is done already; see the head of tools/environment.py.
PYTHON ?= python3
RUN := $(PYTHON) tools/environment.py

.PHONY: demo test lint bench train doctor clean

demo:  ## run the demo: a synthetic robot drives, and the node's odometry is compared with the truth
	@$(RUN) loger demo

test:  ## run every test
	@$(RUN) python -m pytest -n 2

lint:  ## check format, style and types
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy

WHAT ?= world
bench:  ## measure this machine; WHAT=clouds, model (a GPU helps), node, reading, soak, stream, weights or world
	@$(RUN) loger bench $(WHAT)

train:  ## train the checkpoint that ships, in some hours; run it again to continue where it stopped
	@$(RUN) loger train config/training/tiny_first.yaml --out out/train/first
	@$(RUN) loger train config/training/tiny_second.yaml --from out/train/first/best.safetensors --out out/train/second
	@$(RUN) loger train config/training/tiny.yaml --from out/train/second/model.safetensors --out out/train/tiny

doctor:  ## check what this machine has and what it lacks
	@$(RUN) loger doctor

clean:  ## delete the environments in this folder and what was built
	rm -rf .venv .venv-* build install log
