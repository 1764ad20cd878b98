"""Trains a perceptron on handwritten digits; the same script on one process or many.

python examples/train_mnist.py
distrain run -n 2 examples/train_mnist.py --epoch 10
"""

import argparse
import os

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import training
from distrain.training import extensions


class MLP(distrain.Chain):
    """Two hidden layers; the input size is learned from the first batch."""

    def __init__(self, n_units, n_out):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(None, n_units)
            self.l2 = L.Linear(None, n_units)
            self.l3 = L.Linear(None, n_out)

    def forward(self, x):
        return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))


def main():
    parser = argparse.ArgumentParser(description="Train a perceptron on handwritten digits")
    parser.add_argument("--dataset", choices=["digits", "mnist"], default="digits", help="digits need no download")
    parser.add_argument("--batchsize", "-b", type=int, default=100, help="samples per step, of all ranks together")
    parser.add_argument("--epoch", "-e", type=int, default=20)
    parser.add_argument("--gpu", "-g", type=int, default=-1, help="number of the GPU; negative: the CPU")
    parser.add_argument("--out", "-o", default="result", help="where logs and snapshots go")
    parser.add_argument("--resume", "-r", default="", help="snapshot to continue from")
    parser.add_argument("--unit", "-u", type=int, default=100, help="units in a hidden layer")
    args = parser.parse_args()

    model = L.Classifier(MLP(args.unit, 10))
    if args.gpu >= 0:
        distrain.cuda.get_device(args.gpu).use()
        model.to_gpu()

    optimizer = distrain.optimizers.Adam()
    optimizer.setup(model)

    get = distrain.datasets.get_digits if args.dataset == "digits" else distrain.datasets.get_mnist
    train, test = get()
    train_iter = distrain.iterators.SerialIterator(train, args.batchsize)
    test_iter = distrain.iterators.SerialIterator(test, args.batchsize, repeat=False, shuffle=False)

    updater = training.StandardUpdater(train_iter, optimizer, device=args.gpu)
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    trainer.extend(extensions.Evaluator(test_iter, model, device=args.gpu))
    trainer.extend(extensions.dump_graph("main/loss"))
    trainer.extend(extensions.snapshot(), trigger=(1, "epoch"))
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.RunRecord())
    trainer.extend(
        extensions.PrintReport(
            [
                "epoch",
                "main/loss",
                "validation/main/loss",
                "main/accuracy",
                "validation/main/accuracy",
                "elapsed_time",
            ]
        )
    )
    trainer.extend(extensions.ProgressBar())

    if args.resume:
        distrain.serializers.load_npz(args.resume, trainer)
    trainer.run()
    distrain.serializers.save_npz(os.path.join(args.out, "mlp.npz"), model)


if __name__ == "__main__":
    main()
