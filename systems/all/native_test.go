//go:build native

package all

import "github.com/fidlab/fidlab/systems/bases"

// networks are the fixtures that parts are run on.
func networks() []string { return []string{bases.MNISTDiT, bases.MNISTUNet} }
