// Chartschema puts the schema of rollcall.yaml, on its standard input, into the
// schema of the chart's values, so that a typing mistake in the configuration is
// found when the chart is installed. The chart writes `nats` itself, and says
// itself that sources and connections are missing.
//
//	rollcall config schema | chartschema BASE > values.schema.json
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "chartschema:", err)
		os.Exit(1)
	}
}

var (
	errUsage  = errors.New("usage: chartschema BASE <SCHEMA >RESULT")
	errNoSlot = errors.New("there are no properties in the schema")
)

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errUsage
	}
	base, err := os.ReadFile(args[0]) //nolint:gosec // named by our own script
	if err != nil {
		return fmt.Errorf("read base: %w", err)
	}
	var values, config map[string]any
	if err := json.Unmarshal(base, &values); err != nil {
		return fmt.Errorf("parse base: %w", err)
	}
	if err := json.NewDecoder(in).Decode(&config); err != nil {
		return fmt.Errorf("parse schema: %w", err)
	}
	slots, ok := values["properties"].(map[string]any)
	keys, alsoOK := config["properties"].(map[string]any)
	if !ok || !alsoOK {
		return errNoSlot
	}
	delete(config, "$schema")
	delete(config, "title")
	delete(config, "required")
	delete(keys, "nats")
	config["description"] = "rollcall.yaml without nats."
	slots["config"] = config
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(values)
}
