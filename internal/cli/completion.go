package cli

import "github.com/spf13/cobra"

// completes makes the shell offer these values of a flag, and no files.
func completes(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil { // no such flag, or twice
		panic("cli: completes: " + err.Error())
	}
}
