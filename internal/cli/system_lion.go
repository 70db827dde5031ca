package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/systems/lion"
	"github.com/fidlab/fidlab/tensor"
)

func init() { systemVerbs = append(systemVerbs, newLion) }

func newLion(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lion VERB",
		Short: "Search optimisers as programs, look at them, and train by them",
		Long: `Search optimisers as programs, look at them, and train by them. A program is a list
of assignments to tensors and scalars; docs/systems/15-lion.md has the language.`,
		Example: `  fidlab system lion discover --evals 20000 --seed 1 -o best.prog
  fidlab system lion show best.prog
  fidlab system lion run best.prog --width 128 --steps 1000`,
		Args: cobra.ArbitraryArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(newLionDiscover(a), newLionShow(a), newLionRun(a))
	return cmd
}

// program reads PROGRAM of a command: a file, or adamw or lion.
func program(name string, builtin func(name string) (*lion.Program, error)) (*lion.Program, error) {
	if name == "adamw" || name == "lion" {
		return builtin(name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return nil, inputf("%s: %w; want a file, adamw or lion", name, path.Err)
		}
		return nil, err
	}
	p, err := lion.Parse(string(b))
	if err != nil {
		return nil, inputf("%s: %w", name, err)
	}
	return p, nil
}

// standard are the programs as searches start from them, and with the settings that the
// paper gives Lion beside AdamW's.
func standard(name string) (*lion.Program, error) {
	if name == "lion" {
		return lion.Lion(1e-4, 0.9, 0.99, 0.1), nil
	}
	return lion.AdamW(1e-3, 0.9, 0.999, 1e-8, 0.01), nil
}

// programInfo is what show prints.
type programInfo struct {
	Program   string `json:"program"`
	Functions int    `json:"functions"`
	Tensors   int    `json:"state_tensors"`
	Hash      string `json:"hash"`
}

func newLionShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show PROGRAM",
		Short: "Print a program without what has no effect, and what it costs",
		Long: `Print a program without what has no effect: only statements that the update needs,
each once. PROGRAM is a file, adamw or lion. Programs of one hash compute the same,
whatever their names, their order and their dead statements are.`,
		Example: "  fidlab system lion show lion",
		Args:    nargs("a program: a file, adamw or lion", 1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := program(args[0], standard)
			if err != nil {
				return err
			}
			g, err := lion.NewGraph(p)
			if err != nil {
				return err
			}
			info := programInfo{g.Program().String(), g.Size(), g.States(), fmt.Sprintf("%x", g.Hash())}
			if a.json {
				return a.printJSON(info)
			}
			a.printf("%s", info.Program)
			a.say("%d functions a step of %d statements, %d state tensors: %d bytes a parameter in float32; hash %s", info.Functions, len(p.Body), info.Tensors, 4*info.Tensors, info.Hash)
			return nil
		},
	}
}

// lionRun is what run was asked for.
type lionRun struct {
	test                    bool
	lr, decay, beta1, beta2 float64
	given                   func(flag string) bool
}

// trained is what run prints.
type trained struct {
	lion.Score
	Width int    `json:"width"`
	Batch int    `json:"batch"`
	Seed  uint64 `json:"seed"`
	On    string `json:"on"`
}

func newLionRun(a *app) *cobra.Command {
	var o lionRun
	k := lion.Proxy(1)
	cmd := &cobra.Command{
		Use:   "run PROGRAM",
		Short: "Train a small classifier of digits by a program",
		Long: `Train a network 64-W-10 to tell digits of 8×8 pixels apart, by a program: a file,
adamw or lion, and print how many it tells right. The program sees a learning rate
that falls from 1 to 0; --lr and the like set the constants of adamw and lion.`,
		Example: `  fidlab system lion run lion --lr 0.003 --wd 0.1 --steps 1000
  fidlab system lion run best.prog --width 128 --steps 1000 --test`,
		Args: nargs("a program: a file, adamw or lion", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.given = cmd.Flags().Changed
			return runLionRun(cmd.Context(), a, &o, k, args[0])
		},
	}
	f := cmd.Flags()
	f.IntVar(&k.Width, "width", k.Width, "a hidden layer of `W`")
	f.IntVar(&k.Steps, "steps", k.Steps, "make `N` steps")
	f.IntVar(&k.Batch, "batch", k.Batch, "of `N` digits each")
	f.Uint64Var(&k.Seed, "seed", k.Seed, "start and batches from seed `S`")
	f.BoolVar(&o.test, "test", false, "train on digits that no search sees, and judge by the test split")
	f.Float64Var(&o.lr, "lr", 0, "learning rate `X` of adamw or lion; default 0.001 and 0.0001")
	f.Float64Var(&o.decay, "wd", 0, "weight decay `X`; default 0.01 and 0.1")
	f.Float64Var(&o.beta1, "beta1", 0.9, "`X` of adamw or lion")
	f.Float64Var(&o.beta2, "beta2", 0, "`X`; default 0.999 and 0.99")
	f.SortFlags = false
	return cmd
}

func runLionRun(ctx context.Context, a *app, o *lionRun, k lion.Task, name string) error {
	p, err := program(name, o.settings)
	if err != nil {
		return err
	}
	if name != "adamw" && name != "lion" {
		for _, f := range []string{"lr", "wd", "beta1", "beta2"} {
			if o.given(f) {
				return usagef("--%s is for adamw and lion; %s has numbers of its own", f, name)
			}
		}
	}
	on := "validation digits"
	if o.test {
		end := lion.Final(k.Seed)
		k.Train, k.Val, k.Test, on = end.Train, end.Val, true, "test digits"
	}
	if err := k.Check(); err != nil {
		return usagef("--width, --steps, --batch: %w", err)
	}
	t, err := lion.NewTrainer(k)
	if err != nil {
		return err
	}
	g, err := lion.NewGraph(p)
	if err != nil {
		return err
	}
	s, err := t.Run(ctx, g)
	if err != nil {
		return err
	}
	if s.Broken {
		return refusedf("%s: after %d of %d steps the loss is not finite; take a smaller rate or another program", name, s.Steps, k.Steps)
	}
	if a.json {
		return a.printJSON(trained{s, k.Width, k.Batch, k.Seed, on})
	}
	a.printf("%.2f %% of %d %s right, loss %.4f nats, after %d steps\n", 100*s.Accuracy, k.Val.To-k.Val.From, on, s.Loss, s.Steps)
	return nil
}

// settings are adamw or lion with the constants of the flags.
func (o *lionRun) settings(name string) (*lion.Program, error) {
	lr, decay, beta2 := 1e-3, 0.01, 0.999
	if name == "lion" {
		lr, decay, beta2 = 1e-4, 0.1, 0.99
	}
	for _, v := range []struct {
		flag string
		from float64
		to   *float64
	}{{"lr", o.lr, &lr}, {"wd", o.decay, &decay}, {"beta2", o.beta2, &beta2}} {
		if o.given(v.flag) {
			*v.to = v.from
		}
	}
	switch {
	case !(lr > 0) || lr > 1e9:
		return nil, usagef("--lr %g: want above 0", lr)
	case !(decay >= 0) || !(lr*decay < 1):
		return nil, usagef("--wd %g at --lr %g: want 0 or more, and a product below 1, or a step would turn parameters round", decay, lr)
	case !(o.beta1 >= 0 && o.beta1 < 1 && beta2 >= 0 && beta2 < 1):
		return nil, usagef("--beta1 %g, --beta2 %g: want 0 to below 1", o.beta1, beta2)
	}
	if name == "lion" {
		return lion.Lion(lr, o.beta1, beta2, decay), nil
	}
	return lion.AdamW(lr, o.beta1, beta2, 1e-8, decay), nil
}

// remarks are lines before a program's text.
func remarks(w io.Writer, lines ...string) error {
	_, err := io.WriteString(w, "# "+strings.Join(lines, "\n# ")+"\n")
	return err
}

func writeProgram(path string, p *lion.Program, opt []tensor.FileOption, lines ...string) error {
	return tensor.WriteAtomic(path, func(w io.Writer) error {
		if err := remarks(w, lines...); err != nil {
			return err
		}
		_, err := io.WriteString(w, p.String())
		return err
	}, opt...)
}
