// Package text reads words: closed vocabularies, captions as tokens, and the
// nearest known name to a wrong one.
package text
