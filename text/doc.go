// Package text reads words: closed vocabularies, captions as tokens, the byte-pair
// encoding of CLIP with a vocabulary that the user brings, and the
// nearest known name to a wrong one.
package text
