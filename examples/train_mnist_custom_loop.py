"""The training of train_mnist.py written out as a loop, without Trainer; on one process or many.

python examples/train_mnist_custom_loop.py
distrain run -n 2 examples/train_mnist_custom_loop.py
"""

import argparse
import os

from train_mnist import MLP

import distrain
import distrain.functions as F
from distrain.dataset import concat_examples


def main():
    parser = argparse.ArgumentParser(description="Train a perceptron on handwritten digits, by hand")
    parser.add_argument("--dataset", choices=["digits", "mnist"], default="digits", help="digits need no download")
    parser.add_argument("--batchsize", "-b", type=int, default=100, help="samples per step, of all ranks together")
    parser.add_argument("--epoch", "-e", type=int, default=20)
    parser.add_argument("--gpu", "-g", type=int, default=-1, help="number of the GPU; negative: the CPU")
    parser.add_argument("--out", "-o", default="result", help="where the model goes")
    parser.add_argument("--unit", "-u", type=int, default=100, help="units in a hidden layer")
    args = parser.parse_args()

    model = MLP(args.unit, 10)
    model.to_device(args.gpu)
    optimizer = distrain.optimizers.Adam()
    optimizer.setup(model)

    get = distrain.datasets.get_digits if args.dataset == "digits" else distrain.datasets.get_mnist
    train, test = get()
    train_iter = distrain.iterators.SerialIterator(train, args.batchsize)
    test_iter = distrain.iterators.SerialIterator(test, args.batchsize, repeat=False, shuffle=False)

    world = distrain.comm.world()
    training = distrain.DictSummary()
    while train_iter.epoch < args.epoch:
        batch = next(train_iter)
        x, t = concat_examples(batch, args.gpu)
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        training.add({"loss": loss}, batch.weight)

        if train_iter.is_new_epoch:
            testing = distrain.DictSummary()
            test_iter.reset()
            with distrain.using_config("train", False), distrain.no_backprop_mode():
                for batch in test_iter:
                    x, t = concat_examples(batch, args.gpu)
                    y = model(x)
                    values = {"loss": F.softmax_cross_entropy(y, t), "accuracy": F.accuracy(y, t)}
                    testing.add(values, batch.n_samples)
            trained, tested = training.over_ranks(world), testing.over_ranks(world)
            world.print(
                f"epoch {train_iter.epoch:2}  loss {trained['loss']:.4f}"
                f"  validation loss {tested['loss']:.4f}  accuracy {tested['accuracy']:.4f}"
            )
            training = distrain.DictSummary()

    os.makedirs(args.out, exist_ok=True)
    distrain.serializers.save_npz(os.path.join(args.out, "mlp_custom_loop.npz"), model)


if __name__ == "__main__":
    main()
