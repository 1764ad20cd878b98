"""Trains a convolutional network on digits that are shifted at random, read by processes of their own.

python examples/train_cnn.py
distrain run -n 2 examples/train_cnn.py --epoch 10

Stopped and started again, it goes on from its last snapshot.
"""

import argparse

import numpy as np

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import training
from distrain.training import extensions


class CNN(distrain.Sequential):
    """Two convolutions and a linear layer; sizes are learned from the first batch."""

    def __init__(self, n_out):
        super().__init__(
            L.Convolution2D(None, 16, 3, pad=1),
            L.BatchNormalization(16),
            F.relu,
            L.Convolution2D(16, 32, 3, pad=1),
            L.BatchNormalization(32),
            F.relu,
            lambda h: F.max_pooling_2d(h, 2),
            lambda h: F.dropout(h, 0.3),
            L.Linear(None, n_out),
        )


class Shifted(distrain.dataset.DatasetMixin):
    """Images, each moved by up to a pixel.

    `sample_rng` gives the generator of the sample that is being read, so the same images come out on one process and
    on many, and after any restart.
    """

    def __init__(self, base):
        self.base = base

    def __len__(self):
        return len(self.base)

    def get_example(self, i):
        image, label = self.base[i]
        dy, dx = distrain.rng.sample_rng().integers(0, 3, 2)
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
        return padded[:, dy : dy + image.shape[1], dx : dx + image.shape[2]], label


def main():
    parser = argparse.ArgumentParser(description="Train a convolutional network on handwritten digits")
    parser.add_argument("--batchsize", "-b", type=int, default=64, help="samples per step, of all ranks together")
    parser.add_argument("--epoch", "-e", type=int, default=20)
    parser.add_argument("--gpu", "-g", type=int, default=-1, help="number of the GPU; negative: the CPU")
    parser.add_argument("--feeders", "-f", type=int, default=1, help="processes of each rank that read samples")
    parser.add_argument("--out", "-o", default="result", help="where logs and snapshots go")
    args = parser.parse_args()

    model = L.Classifier(CNN(10))
    if args.gpu >= 0:
        distrain.cuda.get_device(args.gpu).use()
        model.to_gpu()
    optimizer = distrain.optimizers.Adam(0.004).setup(model)

    train, test = distrain.datasets.get_digits(ndim=3)
    train_iter = distrain.iterators.MultiprocessIterator(Shifted(train), args.batchsize, n_processes=args.feeders)
    test_iter = distrain.iterators.SerialIterator(test, args.batchsize, repeat=False, shuffle=False)

    updater = training.StandardUpdater(train_iter, optimizer, device=args.gpu)
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    steps = args.epoch * len(train) // args.batchsize
    trainer.extend(extensions.CosineShift("alpha", steps, warmup=steps // 20), trigger=(1, "iteration"))
    trainer.extend(extensions.Evaluator(test_iter, model, device=args.gpu))
    trainer.extend(extensions.observe_lr())
    trainer.extend(extensions.Throughput(), trigger=(1, "epoch"))
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.RunRecord())
    shown = [
        "epoch",
        "main/loss",
        "validation/main/loss",
        "validation/main/accuracy",
        "samples_per_second",
        "time/data",
    ]
    trainer.extend(extensions.PrintReport(shown))
    trainer.extend(extensions.snapshot(n_retains=2, autoload=True), trigger=(1, "epoch"))
    trainer.run()


if __name__ == "__main__":
    main()
