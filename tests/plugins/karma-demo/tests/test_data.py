"""The demo plugin's reader and writer keep the contracts."""

from karma_demo.data import karma_register_exporters, karma_register_importers

from karma_plugins.testing import ExporterContract, ImporterContract


class TestDemoImporter(ImporterContract):
    plugin = karma_register_importers()[0]
    sample = "What is 2 + 2?|4|5\nSay hi|Hello!|Go away\n"


class TestDemoExporter(ExporterContract):
    plugin = karma_register_exporters()[0]
