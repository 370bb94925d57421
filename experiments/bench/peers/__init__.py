"""The same work in frameworks of the field, each script run by the Python of that framework's own environment.

    python run_NAME.py WORK.npz     prints {"version": ..., "rounds": [seconds, ...]} as its last line

The scripts import nothing of ours, since their environments hold the framework and PyTorch alone.
"""
