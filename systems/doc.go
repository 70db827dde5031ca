// Package systems proves the claims of papers on small scale.
//
// A system is one package below this one, made of a Recipe: what the paper
// claims, and a plan of experiments that would show it. Prove carries a plan
// out: it tunes every arm of an experiment with the same number of trials on
// validation noise, runs each once more on test noise over several seeds, the
// same for all arms, and judges criteria, which are ratios of an arm to its
// rival, by their paired intervals:
//
//	pass          the whole interval is on the claim's side of the bound
//	fail          the whole interval is on the other side
//	inconclusive  the bound lies within, or there is no interval
//
// The one rule to know: nothing is compared that had unlike chances. A plan whose
// arms differ in evaluations, parameters, operations, training steps or tuning
// trials is refused, unless the criterion says why they may; and an arm that
// spends another amount than it declares ends the proof.
//
// The result is a Record, a JSON file from which tables, figures and pages are
// made. Outcomes are kept in a Store as they are computed, under a key of
// everything that they depend on, so that an interrupted proof goes on where it
// was.
package systems
