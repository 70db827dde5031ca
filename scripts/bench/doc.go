// Command bench measures fidlab against the tools that people use today, in one
// run, on the same inputs and the same threads:
//
//	make bench                          # everything; the peers are installed into .venv once
//	scripts/bench/run.sh -rows frechet  # the rows whose name contains that
//
// Peer and fidlab take turns, so that a machine that slows down slows both. A
// row shows the best time of each, their ratio, the target and whether it is
// met, and compares the values: a fast wrong answer is no answer. Without the
// peers (offline) only our side is shown. Rows that this machine cannot run say
// why.
//
// The peers' side is peer.py, which only calls the peers; inputs.py makes the
// inputs, the Inception weights among them by the recipe of
// testdata/golden/inception.
package main
