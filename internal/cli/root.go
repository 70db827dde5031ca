package cli

import (
	"errors"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/text"
)

const rootLong = `fidlab scores image generators (FID and its family) and draws samples.

Every command prints its result alone on standard output and everything else on
standard error. Exit codes: 0 done, 1 failed, 2 usage, 3 bad input, 4 refused
because the number would mean nothing, 130 interrupted; a closed pipe is 0.`

// newRoot is the table of commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "fidlab",
		Short:         "Score and sample image generators",
		Long:          rootLong,
		Args:          cobra.ArbitraryArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown("command", args[0], commandNames(cmd))
			}
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "write the whole result as one JSON object")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say more on standard error")
	f.StringVar(&a.device, "device", "auto", "compute on `DEVICE`: auto, cpu, cuda or cuda:N")
	f.IntVar(&a.threads, "threads", 0, "use `N` worker threads; 0 takes all cores")
	f.StringVar(&a.assets, "assets", "", "look for what ships with fidlab in the folder `DIR` first")
	f.SortFlags = false
	completes(root, "device", "auto", "cpu", "cuda")
	root.SetOut(a.stdout)
	root.SetErr(a.env.Stderr)
	root.SetIn(a.env.Stdin)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && len(a.args) > 0 && !strings.HasPrefix(a.args[0], "-") {
			return unknown("command", a.args[0], commandNames(root)) // its flags are unknown for that reason
		}
		return flagError(cmd, err)
	})
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.checkGlobals() }
	root.AddCommand(newCache(a), newCompare(a), newData(a), newDoctor(a), newExtractors(a), newFeatures(a), newFID(a), newInspect(a), newLearnGrid(a), newLPIPS(a), newMerge(a), newModels(a), newPPL(a), newProve(a), newResize(a), newSample(a), newSamplers(a), newScore(a), newStats(a), newSystem(a), newSystems(a), newTrain(a), newVersion(a), newWatch(a), newWeights(a))
	return root
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// flagError makes pflag's complaints usage errors, with the flag that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	var none *pflag.NotExistError
	if !errors.As(err, &none) {
		return &usageError{err: err}
	}
	name := none.GetSpecifiedName()
	if none.GetSpecifiedShortnames() != "" {
		return usagef("unknown flag -%s in -%s", name, none.GetSpecifiedShortnames())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return unknown("flag", "--"+name, names)
}

// unknown is the usage error for a name that is not in the list.
func unknown(what, got string, known []string) error {
	sort.Strings(known)
	if best := text.Nearest(got, known); best != "" {
		return usagef("unknown %s %q; did you mean %s? There are: %s", what, got, best, strings.Join(known, " "))
	}
	return usagef("unknown %s %q; there are: %s", what, got, strings.Join(known, " "))
}

// nargs is the usage error for a wrong number of arguments; it names them.
func nargs(want string, atLeast, atMost int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) >= atLeast && (len(args) <= atMost || atMost < 0):
			return nil
		case atMost == 0:
			return usagef("want no arguments, got %d: %s", len(args), strings.Join(args, " "))
		}
		return usagef("want %s, got %d arguments", want, len(args))
	}
}
