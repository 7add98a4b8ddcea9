# Every target makes .venv and installs what it lacks; the second time it is quick.
PYTHON ?= python3
STUDY ?= demo
KILLS ?= 300
POINTS ?= 90
STUDIES ?= 2000
RUNS ?= 3
DEEP := 0,94
SMALL := --image-size 96 --max-epochs 3 --depths 0,10,20
MATERIAL = $(and $(DATA),--data $(DATA)) $(and $(WEIGHTS),--weights $(WEIGHTS))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup search report best doctor test check bench bench-quick ablation torture simulate clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo "  STUDY=NAME chooses the study (now: $(STUDY))"

setup: $(VENV)/.installed ## make .venv and install tlstudy into it

search: $(VENV)/.installed ## run or resume the study, then show its report
	@$(BIN)/tlstudy search $(STUDY) --report
	@echo "Here tlstudy is $(BIN)/tlstudy; for plain tlstudy: source $(BIN)/activate"

report: $(VENV)/.installed ## tables here, figures and data in studies/STUDY/report
	@$(BIN)/tlstudy report $(STUDY)

best: $(VENV)/.installed ## the best configurations, and the best model as studies/STUDY/model.keras
	@$(BIN)/tlstudy best $(STUDY) --export studies/$(STUDY)/model.keras --force

doctor: $(VENV)/.installed ## what this machine has and lacks
	@$(BIN)/tlstudy doctor

test: $(VENV)/.dev ## run the test suite
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## measure against KerasTuner, plain, informed and augmenting, and the floor; 1 to 2 hours (DATA=, WEIGHTS=, RUNS=3)
	@mkdir -p build
	$(BIN)/python tests/benchmarks/bench.py --runs $(RUNS) --again $(MATERIAL) --json build/bench.json
	$(BIN)/python tests/benchmarks/bench.py --runs 1 --only tlstudy,augmented $(MATERIAL) --json build/bench.json
	$(BIN)/python tests/benchmarks/phases.py --runs $(RUNS) $(MATERIAL) --json build/bench.json
	$(BIN)/python tests/benchmarks/ablation.py $(MATERIAL) --json build/bench.json
	$(BIN)/python tests/benchmarks/scaling.py $(and $(WEIGHTS),--weights $(WEIGHTS)) --json build/bench.json
	$(BIN)/python tests/benchmarks/figure.py build/bench.json build/bench.png

bench-quick: $(VENV)/.dev ## the same comparison small, and where the seconds go, in under five minutes
	$(BIN)/python tests/benchmarks/bench.py --runs 1 $(SMALL) $(MATERIAL)
	$(BIN)/python tests/benchmarks/phases.py $(SMALL) $(MATERIAL)

ablation: $(VENV)/.dev ## what each technique of the fine-tuning recipe is worth, on DATA= from WEIGHTS= or on drawn images (ABLATION=--quick)
	$(BIN)/python tests/benchmarks/recipe.py $(MATERIAL) $(ABLATION) --json build/recipe.json --figure build/recipe.png

torture: $(VENV)/.dev ## kill searches, fail their writes and cut the power, again and again, and compare (KILLS=300; POINTS=0: every write, hours; WEIGHTS=)
	$(BIN)/python tests/faults/every_write.py --subject cache
	$(BIN)/python tests/faults/every_write.py --subject documents
	$(BIN)/python tests/faults/every_write.py --points $(POINTS)
	$(BIN)/python tests/faults/every_write.py --points $(POINTS) --subject "search by last epochs"
	$(BIN)/python tests/faults/power.py --points $(POINTS)
	$(BIN)/python tests/faults/torture.py --kills $(KILLS)
	$(BIN)/python tests/faults/torture.py --kills 60 --recipe all
	$(BIN)/python tests/faults/torture.py --kills 20 --warm --depths $(DEEP)
	$(if $(WEIGHTS),$(BIN)/python tests/faults/torture.py --kills 50 --warm --depths $(DEEP) --image-size 224 --weights $(abspath $(WEIGHTS)))

simulate: $(VENV)/.dev ## count how often intervals hold the truth and verdicts are wrong (STUDIES=2000; 20000 for the record)
	$(BIN)/python tests/evidence/simulate.py --studies $(STUDIES)

clean: ## remove .venv and caches; studies and their results stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find tuner tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "tlstudy needs Python 3.11, 3.12 or 3.13; %s is %d.%d. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" % (sys.executable, *v))'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml .ci/constraints.txt | $(VENV)/bin/python
	@echo "Installing tlstudy into $(VENV) (TensorFlow is large; this happens once) ..."
	$(PIP) install -c .ci/constraints.txt -e '.[tensorflow]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install -c .ci/constraints.txt -e '.[dev]'
	@touch $@
