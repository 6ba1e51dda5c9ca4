package scim

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed profiles/*.yaml
var profileFiles embed.FS

// builtIn are the profiles of the embedded files by name.
var builtIn = sync.OnceValue(func() map[string]Profile {
	profiles, err := readProfiles(profileFiles)
	if err != nil { // the files are the program's own, and a test reads them
		panic(err)
	}
	return profiles
})

// Generic is the profile of a target that nothing particular is known about.
func Generic() Profile { return builtIn()["generic"].clone() }

// FindProfile gives a built-in profile by its name.
func FindProfile(name string) (Profile, bool) {
	p, ok := builtIn()[name]
	return p.clone(), ok
}

// ProfileNames are the names of the built-in profiles, sorted.
func ProfileNames() []string { return slices.Sorted(maps.Keys(builtIn())) }

func (p Profile) clone() Profile {
	p.Fixed, p.PatchOnly, p.Drop = slices.Clone(p.Fixed), slices.Clone(p.PatchOnly), slices.Clone(p.Drop)
	p.Immutable, p.Lookup, p.Attributes = slices.Clone(p.Immutable), maps.Clone(p.Lookup), slices.Clone(p.Attributes)
	return p
}

func readProfiles(files fs.FS) (map[string]Profile, error) {
	names, err := fs.Glob(files, "profiles/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("find profiles: %w", err)
	}
	profiles := map[string]Profile{}
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read profile: %w", err)
		}
		p, err := parseProfile(strings.TrimSuffix(path.Base(name), ".yaml"), data)
		if err != nil {
			return nil, err
		}
		profiles[p.Name] = p
	}
	return profiles, nil
}

// parseProfile reads a profile; what it does not name is open. Unknown keys are
// errors.
func parseProfile(name string, data []byte) (Profile, error) {
	file := struct {
		Profile `yaml:",inline"`

		Rate Rate `yaml:"rate"`
	}{Profile: base()}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return Profile{}, fmt.Errorf("profile %s: %w", name, err)
	}
	var keys map[string]yaml.Node
	if err := yaml.Unmarshal(data, &keys); err != nil {
		return Profile{}, fmt.Errorf("profile %s: %w", name, err)
	}
	delete(keys, "rate")
	p := file.WithFixed(slices.Collect(maps.Keys(keys))...)
	p.Name, p.Rate = name, file.Rate
	return p, p.check()
}

// check reports what a profile's text gets past the YAML decoder.
func (p Profile) check() error {
	paths := slices.Concat(p.PatchOnly, p.Attributes, p.Drop, p.Immutable, slices.Collect(maps.Keys(p.Lookup)), slices.Collect(maps.Values(p.Lookup)), []string{p.Unique})
	for _, one := range paths {
		if _, err := ParsePath(one); err != nil {
			return fmt.Errorf("profile %s: %w", p.Name, err)
		}
	}
	for value, choices := range map[string][]string{
		p.MembersReadable: {ReadableYes, ReadableOnRequest, ReadableNo},
		p.Delete:          {DeleteDeletes, DeleteDisables},
		p.Proof:           {ProofByAnswer, ProofByStatus},
		p.ExtensionPatch:  {ExtensionByPath, ExtensionNested, ExtensionByPut},
	} {
		if !slices.Contains(choices, value) {
			return fmt.Errorf("profile %s: %w: %q is none of %v", p.Name, errValue, value, choices)
		}
	}
	return nil
}
