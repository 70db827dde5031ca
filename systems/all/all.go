// Package all registers every system that is built, and the fixtures: programs
// that want the whole catalog import it for that alone.
package all

import (
	_ "github.com/fidlab/fidlab/systems/arflow"
	_ "github.com/fidlab/fidlab/systems/autodiffusion"
	_ "github.com/fidlab/fidlab/systems/bases"
	_ "github.com/fidlab/fidlab/systems/ddo"
	_ "github.com/fidlab/fidlab/systems/fivestep"
	_ "github.com/fidlab/fidlab/systems/flowturbo"
	_ "github.com/fidlab/fidlab/systems/gaussteleport"
	_ "github.com/fidlab/fidlab/systems/gsjacobi"
	_ "github.com/fidlab/fidlab/systems/ict"
	_ "github.com/fidlab/fidlab/systems/lion"
	_ "github.com/fidlab/fidlab/systems/pfgmpp"
	_ "github.com/fidlab/fidlab/systems/shiftsteps"
	_ "github.com/fidlab/fidlab/systems/symmflow"
)
