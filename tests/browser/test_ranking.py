"""An annotator in a real Chromium ranks a request's candidates that `push --ranking` sent; `collect` reads the order."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from annotation.link import the_link
from annotation.server import Studio
from annotation.store import MAX_SEQ, open_store, store_path
from flows.annotate import Images, Work, collect_run, push_run, studio_settings
from pipeline.build import prepare_run, run_part
from pipeline.config import BuildConfig
from tests.browser.test_report import FLAGS

TOKEN_ENV = "REGIONWISE_TEST_TOKEN"
