package ldaptest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/internal/scratch"
)

// Parcel is what a server takes that runs somewhere else, in a container say, as any
// account.
type Parcel struct {
	Files   []string // whole paths; there they have to be the same
	Command []string // listens on all addresses, for LDAP at port 1389, for LDAPS at 1636
	Env     []string // NAME=value
	Data    string   // a directory that is empty and can be written to
}

// Pack prepares a server that somebody else runs. When it answers, URL and TLSURL are
// to be set to where it can be reached, and Fill brings the entries. Its certificate,
// where Options.TLS asks for one, is for the host name.
func Pack(ctx context.Context, dir, host string, opts Options) (*Server, *Parcel, error) {
	s, err := newServer(ctx, dir, opts)
	if err != nil {
		return nil, nil, err
	}
	p := &Parcel{
		Command: []string{s.install.programs["slapd"], "-f", s.path("slapd.conf"), "-h", "ldap://0.0.0.0:1389/", "-d", "0"},
		Data:    s.path("db"),
	}
	if s.install.library != "" {
		p.Env = []string{"LD_LIBRARY_PATH=" + s.install.library}
	}
	if opts.TLS {
		p.Command[4] += " ldaps://0.0.0.0:1636/"
		if err := s.makeKeys(host); err != nil {
			return nil, nil, err
		}
	}
	if err := s.writeConfig(); err != nil {
		return nil, nil, err
	}
	if p.Files, err = s.install.files(ctx); err != nil {
		return nil, nil, err
	}
	own, err := within(s.dir)
	p.Files = append(p.Files, own...)
	return s, p, err
}

// Fill brings the entries that Launch would have loaded.
func (s *Server) Fill(ctx context.Context) error {
	return s.Apply(ctx, s.baseTree()+"\n"+s.opts.LDIF)
}

// files are the installation's server, with the libraries, modules and schemas that it
// needs. Every file is there once.
func (i *installation) files(ctx context.Context) ([]string, error) {
	binaries := []string{i.programs["slapd"]}
	for _, name := range modules {
		found, err := filepath.Glob(filepath.Join(i.modules, name+"*"))
		if err != nil || len(found) == 0 && i.modules != "" {
			return nil, fmt.Errorf("find the module %s in %s: %w", name, i.modules, err)
		}
		binaries = append(binaries, found...)
	}
	files, err := within(i.schema)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, binary := range binaries {
		files = append(files, binary)
		if strings.HasSuffix(binary, ".la") {
			continue
		}
		listing, err := scratch.Run(ctx, i.env(), "", "ldd", binary)
		if err != nil {
			return nil, fmt.Errorf("list the libraries of %s: %w", binary, err)
		}
		for _, library := range libraries(listing) {
			if !seen[library] {
				seen[library] = true
				files = append(files, library)
			}
		}
	}
	return files, nil
}

// libraries are the files that ldd lists: "name => file (address)", or the file alone.
func libraries(listing string) (files []string) {
	for line := range strings.Lines(listing) {
		for word := range strings.FieldsSeq(line) {
			if filepath.IsAbs(word) {
				files = append(files, word)
			}
		}
	}
	return files
}

// within are the files below a directory.
func within(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at, err := os.Stat(path) // what a link means
		if err == nil && at.Mode().IsRegular() && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	})
	return files, err
}
