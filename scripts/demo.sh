#!/bin/sh
# The whole job on real images. Every line that starts with $ is a command that you can run yourself.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
out=runs/demo data=fashion-mnist

step() { printf '\n\033[1m%s\033[0m\n' "$1"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step "1/4  Data: 70,000 photographs of clothes (31 MB)"
if ! run unlabeled data get fashion-mnist; then
    echo "Fashion-MNIST cannot be had here (see the lines above): the demo goes on with"
    echo "scikit-learn's 1,797 digits, where raw pixels are hard to beat."
    data=digits
fi

step "2/4  Pretrain: SimCLR on the training images, no labels, about five minutes on two cores"
if [ -f "$out/status.json" ]; then
    echo "$out is finished already: rm -r $out trains it again"
elif [ "$data" = fashion-mnist ]; then
    run unlabeled pretrain simclr --data "$data" --epochs 6 --out "$out"
else
    run unlabeled pretrain simclr --data "$data" --out "$out"
fi

step "3/4  Evaluate: beside raw pixels, the same encoder untrained, and one trained with 1 % of the labels"
run unlabeled evaluate "$out" --supervised few

step "4/4  Use it: vectors for scikit-learn, weights for anybody"
run unlabeled embed "$out" --data "$data" --split test --out "$out/test.npy" --overwrite
run unlabeled export "$out" --to pt2 --overwrite

printf '\nThe report, with curves, neighbors and a map of the embeddings: %s\n' "$PWD/$out/report.html"
