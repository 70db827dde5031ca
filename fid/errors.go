package fid

import (
	"errors"
	"fmt"
)

// BadInputError means that an input is not what it should be: unreadable, cut,
// of the wrong shape, or not to be compared with the other one.
type BadInputError struct{ err error }

func (e *BadInputError) Error() string { return e.err.Error() }

// Unwrap is the cause.
func (e *BadInputError) Unwrap() error { return e.err }

// NumericError means that the inputs were read but a number computed from them
// would mean nothing; the message holds the figure that says why.
type NumericError struct{ err error }

func (e *NumericError) Error() string { return e.err.Error() }

// Unwrap is the cause.
func (e *NumericError) Unwrap() error { return e.err }

// ErrUnlike is inside the BadInputError of two sets whose features were made
// in different ways.
var ErrUnlike = errors.New("the two sets were not made alike")

func badInput(format string, args ...any) error {
	return &BadInputError{fmt.Errorf("fid: "+format, args...)}
}

func numeric(format string, args ...any) error {
	return &NumericError{fmt.Errorf("fid: "+format, args...)}
}
