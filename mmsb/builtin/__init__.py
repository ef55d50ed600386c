"""What mmsb itself brings through the plugins' door; mmsb/plugin/builtins.py lists the modules."""
