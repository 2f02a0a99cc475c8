"""Files that are nearly models: valid ones changed in their structure, with hashes that hold, loaded and run at the Python border.

``PYTHONPATH=.:tests python -m mutants --seconds 60`` runs a campaign, which reports its executions and fails below ``--least``.
"""
