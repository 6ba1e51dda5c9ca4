// Chartreadme writes the reference of a chart's values into its README, between two
// marks, from the comments in its values.yaml: each key with its default and what
// stands above or behind it. A comment above a group of keys is the group's.
//
//	chartreadme VALUES README
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "chartreadme:", err)
		os.Exit(1)
	}
}

const (
	begin = "<!-- written by make generate -->\n"
	end   = "<!-- end -->\n"
)

var (
	errUsage   = errors.New("usage: chartreadme VALUES README")
	errNoMarks = errors.New("the README has no place for the values")
	errNoWords = errors.New("has no comment in the values")
)

func run(args []string) error {
	if len(args) != 2 {
		return errUsage
	}
	values, err := os.ReadFile(args[0]) //nolint:gosec // named by our own script
	if err != nil {
		return fmt.Errorf("read values: %w", err)
	}
	readme, err := os.ReadFile(args[1]) //nolint:gosec // named by our own script
	if err != nil {
		return fmt.Errorf("read README: %w", err)
	}
	table, err := reference(values)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(readme), begin)
	_, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		return errNoMarks
	}
	return os.WriteFile(args[1], []byte(before+begin+table+end+after), 0o644) //nolint:gosec // everybody may read it
}

// reference is a table for each key at the top.
func reference(values []byte) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return "", fmt.Errorf("parse values: %w", err)
	}
	var b strings.Builder
	b.WriteString("\n| Key | Default | Meaning |\n|---|---|---|\n")
	top := document.Content[0]
	inherited := ""
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if words := comment(key, value); words != "" {
			inherited = words
		}
		if inherited == "" {
			return "", fmt.Errorf("%s %w", key.Value, errNoWords)
		}
		if err := row(&b, key.Value, value, inherited); err != nil {
			return "", err
		}
	}
	b.WriteString("\n")
	return b.String(), nil
}

// row is the line of a key; an object of several lines has one for each of its keys.
func row(b *strings.Builder, path string, value *yaml.Node, words string) error {
	if value.Kind != yaml.MappingNode || value.Style&yaml.FlowStyle != 0 || len(value.Content) == 0 {
		text, err := inline(value)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", path, text, cell(words))
		return err
	}
	if _, err := fmt.Fprintf(b, "| **`%s`** | | %s |\n", path, cell(words)); err != nil {
		return err
	}
	for i := 0; i < len(value.Content); i += 2 {
		inner, of := value.Content[i], value.Content[i+1]
		if err := row(b, path+"."+inner.Value, of, comment(inner, of)); err != nil {
			return err
		}
	}
	return nil
}

func cell(words string) string { return strings.ReplaceAll(words, "|", `\|`) }

// comment is what stands above a key or behind it, as one line.
func comment(key, value *yaml.Node) string {
	// An example that is commented out follows the comment of the key before it.
	words := strings.Join([]string{last(key.HeadComment), key.LineComment, value.LineComment}, " ")
	var out []string
	for word := range strings.FieldsSeq(words) {
		if word != "#" {
			out = append(out, strings.TrimPrefix(word, "#"))
		}
	}
	return strings.Join(out, " ")
}

// last is the last paragraph.
func last(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	return paragraphs[len(paragraphs)-1]
}

// inline writes a value in one line.
func inline(value *yaml.Node) (string, error) {
	bare := *value
	strip(&bare)
	if bare.Kind != yaml.ScalarNode {
		bare.Style = yaml.FlowStyle
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	if err := encoder.Encode(&bare); err != nil {
		return "", fmt.Errorf("write a default: %w", err)
	}
	return strings.Join(strings.Fields(b.String()), " "), nil
}

func strip(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	for _, inner := range n.Content {
		strip(inner)
	}
}
