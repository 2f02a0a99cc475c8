"""Detection and segmentation: a small RetinaNet-shaped detector and the zoo's U-Net on scenes composed of letters.

Run from the repository's root::

    python -m benchmarks.methods.scenes --out build/scenes            # rows that are missing; float networks come with the repository
    python -m benchmarks.methods.scenes --retrain --out build/scenes  # trains the float networks anew first, minutes
    python -m benchmarks.methods.scenes --quick                       # a smoke test

``data.py`` draws the scenes, ``detector.py`` has the network with its anchors, loss and decoding, ``metrics.py`` AP and IoU,
``networks.py`` the two tasks and the training of their float networks, ``rows.py`` what is made of them.
"""
