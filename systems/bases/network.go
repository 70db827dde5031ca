package bases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// The fixtures of trained networks that ship beside the program, by their names
// among the assets: digits of 28×28 by class, a U-Net and a
// transformer on the flow's path. Their values are a *Network. One that is not here is
// a *systems.AbsentError, a file of another hash the error of package assets.
const (
	MNISTUNet = "mnist-unet"
	MNISTDiT  = "mnist-dit"
)

func init() {
	for name, text := range map[string]string{
		MNISTUNet: "a trained U-Net that draws digits, the flow's path",
		MNISTDiT:  "a trained transformer that draws digits, the flow's path",
	} {
		systems.RegisterFixture(systems.Fixture{Name: name, Text: text, Open: func(_ context.Context, env *systems.Env) (any, string, error) {
			n, err := openShipped(env, name)
			if err != nil {
				return nil, "", err
			}
			return n, n.Entry.SHA256, nil
		}})
	}
}

// Network is a trained network as experiments sample it.
type Network struct {
	*systems.Trained
	Name    string
	Entry   assets.Entry // what the index of assets says of its file
	Average float64      // the decay of the average of its weights
	Device  *gpu.Device
	FLOPs   float64 // of an evaluation, for one picture
}

// openShipped opens a generator of the assets on the device of env.
func openShipped(env *systems.Env, name string) (*Network, error) {
	path, err := assets.Find(name)
	var unknown *assets.UnknownError
	var missing *assets.MissingError
	switch {
	case errors.As(err, &unknown), errors.As(err, &missing):
		return nil, &systems.AbsentError{Fixture: name, Err: err}
	case err != nil:
		return nil, err
	}
	entry, err := assets.Default().Lookup(name)
	if err != nil {
		return nil, err
	}
	saved, err := train.OpenSaved(path)
	if err != nil {
		return nil, err
	}
	defer saved.Close()
	task, ok := systems.FindTask(saved.Job)
	if !ok || task.Open == nil {
		return nil, fmt.Errorf("bases: %s is of %s, which draws no pictures that this program knows", path, saved.Job)
	}
	n := &Network{Name: name, Entry: entry, Average: saved.Averages()[0], Device: env.Device}
	if n.Device == nil {
		n.Device = gpu.CPU()
	}
	if n.Trained, err = task.Open(n.Device, saved, n.Average); err != nil {
		return nil, err
	}
	n.FLOPs = FLOPs(n.Net, n.Shape)
	return n, nil
}

// FLOPs are the operations of a network's evaluation for one picture of a shape [C, H, W], 0 where they are not known.
func FLOPs(net models.Net, shape []int) float64 { return 2 * multiplications(net, shape) }

// multiplications of a forward pass for one picture of a shape [C, H, W], 0 where they are not known.
func multiplications(net models.Net, shape []int) float64 {
	var blocks []float64
	var rest float64
	switch m := net.(type) {
	case *unet.UNet:
		blocks, rest = m.Costs(shape[1], shape[2], 0)
	case *dit.Net:
		blocks, rest = m.Costs(0, dit.Options{})
	}
	for _, b := range blocks {
		rest += b
	}
	return rest
}

// Describe says which network it is and what was measured of it.
func (n *Network) Describe() string {
	parts := []string{fmt.Sprintf("%s, %d steps of training, SHA-256 %.12s", n.Entry.Text, n.Entry.Steps, n.Entry.SHA256)}
	for _, f := range n.Entry.Figures {
		if f.Name != "fid" {
			continue
		}
		text := fmt.Sprintf("FID %.4g", f.Value)
		if f.Floor != nil {
			text += fmt.Sprintf(" (as many real pictures: %.4g)", *f.Floor)
		}
		parts = append(parts, fmt.Sprintf("%s of %d pictures by %s in %d steps, against %s by %s", text, f.N, f.Sampler, f.Steps, f.Against, f.Encoder))
	}
	if len(parts) == 1 {
		parts = append(parts, "its index has no FID")
	}
	return strings.Join(parts, "; ")
}

// evaluated is how many pictures the network computes at a time.
const evaluated = 16

// Denoiser is the network as solvers ask it. Each call makes one of its own, for one goroutine at a time.
func (n *Network) Denoiser() *sampler.Adapted {
	return network.Denoiser(n.Net, n.Path, n.Pred, network.Options{Batch: evaluated})
}

// Options draw count pictures from a seed's noise, of the classes in turn.
func (n *Network) Options(seed uint64, count int) sampler.Options {
	return sampler.Options{Seed: seed, N: count, Batch: 16 * evaluated, Shape: n.Shape, Device: n.Device, Cond: n.Cond(count), Kernel: n.Kernel}
}

// Cond asks for the classes in turn; without classes it is nothing.
func (n *Network) Cond(count int) sampler.Cond { return InTurn(n.Net.Takes().Classes, count) }

// Rule is the usual rule of the path's grids.
func (n *Network) Rule() string { return usualRule(n.Path) }

// Fine are the ends of the first count noises of a seed along the path from its
// most noise, by Heun's method: with steps enough, as good as exact beside those of
// few. What they are for is RMSE.
func (n *Network) Fine(ctx context.Context, env *systems.Env, path diffusion.Path, rule string, steps int, seed uint64, count int) (*gpu.Tensor, error) {
	key := fmt.Sprintf("fine %s %s %s %s %d %d %d", n.Name, n.Entry.SHA256, path.Name(), rule, steps, seed, count)
	return systems.Memo(env, key, func() (*gpu.Tensor, error) {
		r, err := n.Heun(ctx, path, rule, steps, n.Options(seed, count))
		if err != nil {
			return nil, err
		}
		return r.X, nil
	})
}

// Heun draws by Heun's method in so many steps of a rule along a path.
func (n *Network) Heun(ctx context.Context, path diffusion.Path, rule string, steps int, o sampler.Options) (*sampler.Result, error) {
	g, err := diffusion.Build(path, diffusion.Spec{Rule: rule, Steps: steps})
	if err != nil {
		return nil, err
	}
	return sampler.Run(ctx, n.Denoiser(), sampler.Heun{}, g, o)
}

// value is v, from -1 to 1, among the network's values.
func (n *Network) value(v float32) float64 { return n.Lo + (float64(v)+1)/2*(n.Hi-n.Lo) }

// Pictures are the first count samples, enlarged.
func (n *Network) Pictures(x *gpu.Tensor, count int) []*imageio.Image {
	v := values(x)
	size := len(v) / x.Shape()[0]
	scale := 255 / (n.Hi - n.Lo)
	pix := make([]float32, size)
	var out []*imageio.Image
	for i := range min(count, x.Shape()[0]) {
		for k, e := range v[i*size : (i+1)*size] {
			pix[k] = float32(e)
		}
		out = append(out, Enlarged(imageio.FromPlanar(slices.Clone(pix), n.Shape[0], n.Shape[1], n.Shape[2], float32(scale), float32(-n.Lo*scale)), 2))
	}
	return out
}

// NetworkParts are a system's claims on mnist-unet and on mnist-dit, whose experiments plan makes of a network's name.
func NetworkParts(text string, plan func(ctx context.Context, env *systems.Env, name string, tier systems.Tier) ([]systems.Experiment, error)) []systems.Part {
	var out []systems.Part
	for _, name := range []string{MNISTUNet, MNISTDiT} {
		out = append(out, systems.Part{Fixture: name, Text: text, Plan: func(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
			return plan(ctx, env, name, tier)
		}})
	}
	return out
}
