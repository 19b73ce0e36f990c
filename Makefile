# make demo: the whole chain on faces that it draws itself. make test: the tests.
# Both make .venv on their first run and reuse it afterwards. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo

.PHONY: demo test test-slow
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(RUN) train_main.py --stage=all --preset=demo --run_dir=$(DEMO)
	$(RUN) -c "from cgan_tf.data import images, synthetic; \
	    images.save_png('$(DEMO)/face.png', synthetic.render(synthetic.sample_face(7, 3), 256))"
	$(RUN) -m cgan_tf.translate --model=$(DEMO) --image=$(DEMO)/face.png --overwrite \
	    --edit=Eyeglasses=+1,Bangs=+1 --strip --output=$(DEMO)/strip.png
	@echo "report: $(CURDIR)/$(DEMO)/report.html"
	@echo "strip:  $(CURDIR)/$(DEMO)/strip.png"

test: $(VENV)/installed-tests
	$(RUN) -m ruff check .
	$(RUN) -m pytest -m "not slow"

test-slow: $(VENV)/installed-tests
	$(RUN) -m pytest -m slow

$(VENV)/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and \
	    "error: Python 3.10 to 3.13 is needed; give one by make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check pip==26.3  # 3.10's own never ends here
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-tests: $(VENV)/installed tests/requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@
