# make try [PHOTO=me.jpg]: an edited face and the editor as a web page, by the model that ships.
# make demo: the whole chain on synthetic faces. make test: style, layers and the fast tests.
# All make .venv on their first run and reuse it afterwards. PYTHON chooses the interpreter; GPU=1
# also installs TensorFlow's CUDA libraries, a download of gigabytes.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# --no-compile halves the installation: Python compiles what is imported, a small part of it.
# setuptools warns of folders named cgan_tf at every editable installation, and even a quiet pip shows
# it. Its other way, a path to the checkout, would make tests/ and export/ importable everywhere.
PIP := PYTHONWARNINGS="ignore:Editable installation" $(RUN) -m pip install --quiet --disable-pip-version-check --no-compile
INSTALLED := $(VENV)/installed$(if $(filter-out 0,$(GPU)),-gpu)
DEMO := runs/demo
SHIPPED := synthetic64
TRY := runs/try
EDIT := $(VENV)/bin/cgan translate --model=$(SHIPPED) --edit=Eyeglasses=+1,Wearing_Lipstick=+1 \
    --keep_detail --strip --overwrite

.PHONY: try demo test test-slow
.DELETE_ON_ERROR:

try: $(INSTALLED)
	mkdir -p $(TRY)
	$(EDIT) --image=cgan_tf/shipped/$(SHIPPED)/face.png --output=$(TRY)/strip.png
	$(if $(PHOTO),$(EDIT) --image="$$PHOTO" --output=$(TRY)/photo.png)
	@echo "edited: $(CURDIR)/$(TRY)/strip.png $(if $(PHOTO),$(CURDIR)/$(TRY)/photo.png)"
	$(VENV)/bin/cgan page --model=$(SHIPPED) --port=0 --open

demo: $(INSTALLED)
	$(VENV)/bin/cgan train --stage=all --preset=demo --run_dir=$(DEMO)
	$(RUN) -c "from cgan_tf.data import images, synthetic; \
	    images.save_png('$(DEMO)/face.png', synthetic.render(synthetic.sample_face(7, 3), 256))"
	$(VENV)/bin/cgan translate --model=$(DEMO) --image=$(DEMO)/face.png --overwrite \
	    --edit=Eyeglasses=+1,Bangs=+1 --strip --output=$(DEMO)/strip.png
	@echo "report: $(CURDIR)/$(DEMO)/report.html"
	@echo "strip:  $(CURDIR)/$(DEMO)/strip.png"

test: $(VENV)/installed-tests $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(RUN) -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/installed-tests $(INSTALLED)
	$(RUN) -m pytest -m slow -n 2 --dist loadfile

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and \
	    "error: Python 3.10 to 3.13 is needed; choose one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) pip==26.3  # the pip of Python 3.10 does not finish
	$(PIP) -r requirements.txt --editable .  # the command cgan
	@touch $@

$(VENV)/installed-gpu: $(VENV)/installed
	$(PIP) -r requirements.txt --editable ".[gpu]"
	@touch $@

$(VENV)/installed-tests: $(VENV)/installed tests/requirements.txt
	$(PIP) -r tests/requirements.txt
	@touch $@
