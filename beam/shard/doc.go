// Package shard finds the shards of a set and reads them: archives, arrays,
// lists and folders of pictures, tables of pictures or of feature vectors, and
// arrays of feature vectors, on the machine or in a store for which a file
// system of Apache Beam is linked (gs://).
//
// What lies in a store is copied to the temporary folder, read and removed: the
// readers of package imageio need files. A shard should therefore fit there.
package shard

import (
	"errors"
	"fmt"
)

// InputError means that a shard, or a pattern of shards, is not what it should be.
type InputError struct{ err error }

func (e *InputError) Error() string { return e.err.Error() }

// Unwrap is the cause.
func (e *InputError) Unwrap() error { return e.err }

func inputf(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

// NumericError means that a feature is no number; nothing can be computed of the set.
type NumericError struct{ err error }

func (e *NumericError) Error() string { return e.err.Error() }

// Unwrap is the cause.
func (e *NumericError) Unwrap() error { return e.err }

func numericf(format string, args ...any) error { return &NumericError{fmt.Errorf(format, args...)} }

// ErrTwice is inside the error of a set that lists a shard twice.
var ErrTwice = errors.New("listed twice")
