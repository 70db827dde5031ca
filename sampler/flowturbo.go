package sampler

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Refiner predicts how a velocity changes from one point to another nearby, which costs less than the velocity itself.
type Refiner interface {
	// Refine writes to out about v(x, p) - v, where v(x, p) = (y - D(x))/τ is the velocity dy/dτ at the state x of the flow at p and v one a
	// little before on its way. All are [B, ...] of one dtype and do not overlap.
	Refine(ctx context.Context, out, x, v *gpu.Tensor, p diffusion.Point, c Cond) error
}

// FlowTurbo walks a grid in blocks of three kinds (Zhao et al. 2024, "FlowTurbo: Towards Real-time Flow-Based Image Generation with
// Velocity Refiner", arXiv 2409.18128), one a step of length h on dy/dτ = v:
//
//	H   v1 = v(y, τ)                       Heun's step, two evaluations
//	P   v1 = v2 of the block before        one evaluation: the velocity at its predicted point stands for that at this one
//	R   v1 = v0 + r(y, τ, v0), v2 = v1 + r(y + h·v1, τ', v1)    none, but two of the Refiner r
//	    y' = y + h/2·(v1 + v2),  v2 = v(y + h·v1, τ') in H and P
//
// v0 is what the block before passes on: v2 of H and P, v1 of R. A last step to τ' = 0, where v is not defined, is Euler's, with v1 alone.
// The local errors of P are of third order, as Heun's are, so that the whole is of second order.
type FlowTurbo struct {
	Blocks  string  // a letter a step, see ParseBlocks; "": Heun blocks H, then P to the end of any grid
	Heun    int     // with no Blocks; 0 is 1
	Refiner Refiner // of blocks R
	// Compat is the refiner's second call as the authors' assembled model has it, which tells it the velocity of the block before:
	// v2 = v1 + r(y + h·v1, τ', v0). Their training has what FlowTurbo does otherwise.
	Compat bool
}

// ParseBlocks reads blocks as letters or with counts, HPPRRR or H1P2R3, to a letter each. It refuses what is none of H, P and R, P that
// follows no evaluation (R, or nothing), and R at the start.
func ParseBlocks(text string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("sampler: blocks %q: "+format, append([]any{text}, args...)...)
	}
	var out strings.Builder
	for rest := strings.ToUpper(strings.TrimSpace(text)); rest != ""; {
		kind := rest[0]
		if !strings.ContainsRune("HPR", rune(kind)) {
			return refuse("%q is no block; wanted H, P and R, with or without counts: H1P2R3", rest[:1])
		}
		rest = rest[1:]
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		count := 1
		if digits > 0 {
			var err error
			if count, err = strconv.Atoi(rest[:digits]); err != nil || count > 1000 {
				return refuse("%s blocks; wanted at most 1000", rest[:digits])
			}
			rest = rest[digits:]
		}
		out.WriteString(strings.Repeat(string(kind), count))
	}
	all := out.String()
	switch {
	case all == "":
		return refuse("no block; wanted one at least, such as H1P2R3")
	case all[0] != 'H':
		return refuse("they begin with %c, which needs a velocity from before; begin with H", all[0])
	case strings.Contains(all, "RP"):
		return refuse("P after R, where no evaluation is left to take over; wanted H or P before P")
	}
	return all, nil
}

// Name says the blocks.
func (s *FlowTurbo) Name() string {
	if s.Blocks == "" {
		return name("flowturbo", "heun=1", max(s.Heun, 1))
	}
	text := "flowturbo(" + s.Blocks
	if s.Compat {
		text += ",compat"
	}
	return text + ")"
}

// at is the kind of step i.
func (s *FlowTurbo) at(i int) byte {
	switch {
	case s.Blocks != "":
		return s.Blocks[i]
	case i < max(s.Heun, 1):
		return 'H'
	}
	return 'P'
}

// Check refuses blocks that ParseBlocks does, another number of them than the grid has steps, and R without a Refiner.
func (s *FlowTurbo) Check(g *diffusion.Grid) error {
	if s.Heun < 0 {
		return fmt.Errorf("sampler: flowturbo: heun=%d; wanted 1 or more", s.Heun)
	}
	if s.Blocks != "" {
		switch all, err := ParseBlocks(s.Blocks); {
		case err != nil:
			return err
		case all != s.Blocks:
			return fmt.Errorf("sampler: flowturbo: blocks %q; wanted a letter each: %s", s.Blocks, all)
		case strings.Contains(all, "R") && s.Refiner == nil:
			return fmt.Errorf("sampler: flowturbo: blocks %s without a refiner, which R asks; give one, or blocks H and P alone", all)
		case g != nil && len(g.Steps) != len(all):
			return fmt.Errorf("sampler: flowturbo: %d blocks %s on the %d steps of grid %s; wanted as many", len(all), all, len(g.Steps), g.Name)
		}
	}
	return checkHeun(s, g)
}

// NFE is two a block H, one a block P and none a block R; one less where the last step, of H or P, leads to zero.
func (s *FlowTurbo) NFE(g *diffusion.Grid) int {
	n := 0
	for i, st := range g.Steps {
		switch kind := s.at(i); {
		case kind == 'R':
			continue
		case kind == 'H':
			n++
		}
		if st.To.B > 0 {
			n++
		}
	}
	return n
}

// Refinements is how often the Refiner is asked: twice a block R, once where that leads to zero.
func (s *FlowTurbo) Refinements(g *diffusion.Grid) int {
	n := 0
	for i, st := range g.Steps {
		if s.at(i) != 'R' {
			continue
		}
		if n++; st.To.B > 0 {
			n++
		}
	}
	return n
}

// Start implements Solver.
func (s *FlowTurbo) Start(like *gpu.Tensor) Stepper {
	return &flowTurbo{FlowTurbo: s, d: like.Like(), v: like.Like(), v2: like.Like(), u: like.Like(), change: like.Like()}
}

type flowTurbo struct {
	*FlowTurbo
	d, u   *gpu.Tensor // what the denoiser says; the predicted state
	v, v2  *gpu.Tensor // what the last block passes on; the second velocity
	change *gpu.Tensor
}

func (s *flowTurbo) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	kind := s.at(i)
	var err error
	switch kind {
	case 'H':
		err = s.velocity(e, s.v, x, g.Space, from)
	case 'R':
		err = s.refined(e, s.v2, x, s.v, from)
		s.v, s.v2 = s.v2, s.v
	}
	if err != nil {
		return err
	}
	h := lineTime(g.Space, to) - lineTime(g.Space, from)
	scale := lineScale(g.Space, to)
	kx, kv := scale/lineScale(g.Space, from), scale*h
	euler := [2]float64{kx, kv}
	if to.B == 0 {
		return e.update(from, s.v, x, euler[:], x, s.v)
	}
	if err := e.update(from, s.v, s.u, euler[:], x, s.v); err != nil {
		return err
	}
	if kind == 'R' {
		known := s.v
		if s.Compat {
			known = s.v2 // of the block before
		}
		if err := s.refine(e, s.change, s.u, known, to); err != nil {
			return err
		}
		// v1 + v2 is 2·v1 and the change.
		c := [3]float64{kx, kv, kv / 2}
		return e.update(to, s.change, x, c[:], x, s.v, s.change)
	}
	if err := s.velocity(e, s.v2, s.u, g.Space, to); err != nil {
		return err
	}
	half := [3]float64{kx, kv / 2, kv / 2}
	err = e.update(to, s.v2, x, half[:], x, s.v, s.v2)
	s.v, s.v2 = s.v2, s.v
	return err
}

// velocity writes (x/scale - D)/τ.
func (s *flowTurbo) velocity(e *Eval, v, x *gpu.Tensor, space diffusion.Space, p diffusion.Point) error {
	if err := e.ask(s.d, x, p); err != nil {
		return err
	}
	tau := lineTime(space, p)
	c := [2]float64{1 / (lineScale(space, p) * tau), -1 / tau}
	return e.update(p, s.d, v, c[:], x, s.d)
}

// refined writes known and the change that the refiner predicts.
func (s *flowTurbo) refined(e *Eval, v, x, known *gpu.Tensor, p diffusion.Point) error {
	if err := s.refine(e, s.change, x, known, p); err != nil {
		return err
	}
	c := [2]float64{1, 1}
	return e.update(p, s.change, v, c[:], known, s.change)
}

func (s *flowTurbo) refine(e *Eval, out, x, v *gpu.Tensor, p diffusion.Point) error {
	return e.failed(s.Refiner.Refine(e.ctx, out, x, v, p, e.cond), nil)
}
