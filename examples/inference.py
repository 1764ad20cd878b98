"""Uses the model that train_mnist.py saved.

python examples/train_mnist.py --out result
python examples/inference.py result/mlp.npz
"""

import argparse

from train_mnist import MLP

import distrain
import distrain.links as L


def main():
    parser = argparse.ArgumentParser(description="Recognise digits with a trained model")
    parser.add_argument("model", help="file saved by train_mnist.py")
    parser.add_argument("--unit", "-u", type=int, default=100, help="units in a hidden layer, as in the training")
    parser.add_argument("--count", "-n", type=int, default=5, help="digits to show")
    args = parser.parse_args()

    model = L.Classifier(MLP(args.unit, 10))
    distrain.serializers.load_npz(args.model, model)

    _, test = distrain.datasets.get_digits()
    x, t = distrain.dataset.concat_examples(test[: args.count])
    with distrain.using_config("train", False), distrain.no_backprop_mode():
        y = model.predictor(x)
    for image, answer, label in zip(x.reshape(-1, 8, 8), y.array.argmax(axis=1), t, strict=True):
        for row in image:
            print("".join(" .:-=+*#@"[int(v * 8)] for v in row))
        print(f"recognised as {answer}, labelled {label}\n")


if __name__ == "__main__":
    main()
