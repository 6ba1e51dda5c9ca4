package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

func (a *app) configCommand() *cobra.Command {
	group := &cobra.Command{Use: "config", Short: "Validate the configuration, print its schema or its defaults"}
	var preset string
	defaults := &cobra.Command{
		Use:   "defaults",
		Short: "Print every key with its default, and the preset's attribute mapping",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := connection.Defaults(preset)
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	}
	defaults.Flags().StringVar(&preset, "preset", "openldap", "directory preset")
	group.AddCommand(defaults,
		&cobra.Command{
			Use:   "schema",
			Short: "Print the JSON Schema of the configuration file",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := a.out.Write(connection.Schema())
				return err
			},
		},
		&cobra.Command{
			Use:   "validate",
			Short: "Report every fault of the configuration file, with its line and the cure",
			Args:  cobra.NoArgs,
			RunE:  func(*cobra.Command, []string) error { return a.validate() },
		})
	return group
}

// validate reports all faults of the file; the command fails where there are any.
func (a *app) validate() error {
	_, err := a.load()
	var faults connection.Faults
	if err != nil && !errors.As(err, &faults) {
		return err
	}
	report := struct {
		File   string            `json:"file"`
		Valid  bool              `json:"valid"`
		Faults connection.Faults `json:"faults"`
	}{a.file, len(faults) == 0, faults}
	printed := a.print(report, func(w io.Writer) error {
		if len(faults) > 0 {
			_, err := fmt.Fprintln(w, faults)
			return err
		}
		_, err := fmt.Fprintf(w, "%s is valid\n", a.file)
		return err
	})
	if printed == nil && len(faults) > 0 {
		return errFoundInConfiguration
	}
	return printed
}
