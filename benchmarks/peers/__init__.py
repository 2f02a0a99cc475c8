"""pyqinfer against other CPU engines: the same torch module, the same input, one race.

Run from the repository's root, on a quiet machine::

    python -m benchmarks.peers --models resnet18,resnet50,mobilenet_v2 --variants fp32,int8 --threads 1,2 --json out.json

A candidate (``candidate.py``) is one engine with one variant of the network; ``catalogue.py`` lists them. Each is quantized by its own
tools and runs in a process of its own (``worker.py``), so that thread pools, allocators and crashes stay apart. ``race.py`` holds the
protocol, ``peak.py`` the machine's dot-product peak that frames every race, ``results.py`` the tables and the JSON.
"""
