package connection

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file.
const maxFile = 4 << 20

// ErrUnreadable means that the configuration file cannot be read.
var ErrUnreadable = errors.New("the configuration cannot be read")

// Load reads and checks the file at path. What is wrong with it comes back as
// Faults, all at once; ErrUnreadable means that there is no such file, or no right to
// read it. Secrets are not read; see ResolveAll.
func Load(path string) (*Config, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return nil, fmt.Errorf("%w: %w%s", ErrUnreadable, err, whence(path))
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return Parse(filepath.Base(path), data)
}

// whence names the working directory, where a path is relative to it.
func whence(path string) string {
	here, err := os.Getwd()
	if err != nil || filepath.IsAbs(path) {
		return ""
	}
	return ", in " + here
}

// Parse checks a configuration and fills in its defaults and presets. The name
// stands in front of the faults.
//
//  1. read the YAML, with the line of every key
//  2. put each value over its default, and check it by itself
//  3. bring in the default mappings
//  4. check what depends on several keys
func Parse(name string, data []byte) (*Config, error) {
	d := newDecoder(name)
	root, err := parseYAML(name, data)
	if err != nil {
		return nil, err
	}
	c := defaultConfig()
	d.origin.lines[""] = root.Line
	d.value(root, reflect.ValueOf(c).Elem(), place{}, 0)
	c.origin = d.origin
	c.applyMappings()
	v := newValidator(c, d.faults)
	v.all()
	if err := v.faults.orNil(); err != nil {
		return nil, err
	}
	return c, nil
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// parseYAML reads the one document of a file.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	if len(data) > maxFile {
		return nil, Faults{{File: name, Problem: fmt.Sprintf("has more than %d bytes", maxFile), Cure: "make it smaller"}}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		return nil, yamlFault(name, err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, yamlFault(name, err)
		}
		return nil, Faults{{File: name, Line: second.Line, Problem: "the file has a second document", Cure: "remove the line ---"}}
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		return nil, Faults{{File: name, Line: 1, Problem: "the file is empty", Cure: "begin with what `rollcall config defaults` prints"}}
	}
	return document.Content[0], nil
}

func yamlFault(name string, err error) error {
	if errors.Is(err, io.EOF) {
		return Faults{{File: name, Line: 1, Problem: "the file is empty", Cure: "begin with what `rollcall config defaults` prints"}}
	}
	f := Fault{File: name, Problem: err.Error(), Cure: "look at the indentation and the quotes there"}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
		f.Problem = "is no YAML: " + m[2]
	}
	return Faults{f}
}

// applyMappings gives every connection without a mapping that of its source's
// preset.
func (c *Config) applyMappings() {
	for _, conn := range c.Connections {
		if len(conn.Users.Attributes) > 0 {
			continue
		}
		name := ""
		if s := c.Sources[conn.Source]; s != nil {
			name = s.Preset
		}
		if p, err := findPreset(name); err == nil {
			conn.Users.Attributes = p.mapping()
		}
	}
}

// ResolveAll reads every secret once and returns Faults for those that cannot be
// read. The secrets are not kept.
func (c *Config) ResolveAll() error {
	var faults Faults
	for key, resolve := range c.secrets() {
		if _, err := resolve(); err != nil {
			faults = append(faults, Fault{File: c.origin.file, Line: c.origin.line(key), Key: key, Problem: err.Error()})
		}
	}
	return faults.orNil()
}

// secrets returns how every configured secret is read, by its key.
func (c *Config) secrets() map[string]func() (string, error) {
	all := map[string]func() (string, error){}
	add := func(key string, s Secret, resolve func() (string, error)) {
		if !s.IsZero() {
			all[key] = resolve
		}
	}
	plain := func(key string, s Secret) { add(key, s, s.Resolve) }
	plain("nats.credentials", c.NATS.Credentials)
	add("console.auth.token", c.Console.Auth.Token, c.Console.Auth.ResolveToken)
	for name, s := range c.Sources {
		plain("sources."+name+".ldap.bind_password", s.LDAP.BindPassword)
	}
	for name, conn := range c.Connections {
		auth := "connections." + name + ".target.auth."
		if conn.Target.Auth.Basic != nil {
			plain(auth+"basic.password", conn.Target.Auth.Basic.Password)
		}
		if conn.Target.Auth.Bearer != nil {
			plain(auth+"bearer.token", conn.Target.Auth.Bearer.Token)
		}
		if conn.Target.Auth.OAuth2 != nil {
			plain(auth+"oauth2_client_credentials.client_secret", conn.Target.Auth.OAuth2.ClientSecret)
		}
		if conn.Target.Auth.Header != nil {
			plain(auth+"header.value", conn.Target.Auth.Header.Value)
		}
	}
	return all
}

// sortedNames returns the keys of a map in order.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
