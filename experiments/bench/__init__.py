"""What the harness costs, measured against what it could cost, in one run on one machine.

    work        what is trained: rows, clients, a model, a batch
    clock       contestants timed in turn, so that a busy machine is busy for all of them
    kernels     one round by other means: the plain loop, two written-out kernels, and the matrix products alone
    training    the trainer, the evaluation and a whole run in process, against these
    generic     models without a compiled kernel: the plain loop against stacked parameters
    sweeping    a sweep of 200 short runs in a process of its own
    frameworks  the same work in Flower's simulation, fluke and pfl, as whole processes
    rules       training seconds of other rules over FedAvg's
    beside      this tree and a commit's in turn, each in child processes (`side`); what is slower
    report      figures, targets, and the files they end in

Bare seconds say little on another machine: what is promised are ratios within one run.
"""
