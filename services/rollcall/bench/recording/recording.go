// Package recording holds the requests that one program sent to a SCIM target, in
// a form in which another can send them again to a target that gives other ids.
package recording

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// Request is one write to the target.
type Request struct {
	Method string `json:"method"`
	Path   string `json:"path"` // below the base URL
	Body   string `json:"body,omitempty"`
	// Creates is the id that the recorded target gave to what the request created.
	// Requests of later phases name it in their paths and bodies.
	Creates string `json:"creates,omitempty"`
}

// Recording is a run in phases. The requests of one phase do not need each
// other's ids, so that they may be sent at the same time.
type Recording struct {
	Phases [][]Request `json:"phases"`
}

// New sorts requests into the phases that ids ask for: users are created, users
// are changed, groups are created, groups are changed. The order within a phase
// stays; a phase without requests is left out.
func New(requests []Request) Recording {
	var phases [4][]Request
	for _, r := range requests {
		n := 0
		if strings.HasPrefix(r.Path, "/Groups") {
			n += 2
		}
		if r.Method != http.MethodPost {
			n++
		}
		phases[n] = append(phases[n], r)
	}
	var all Recording
	for _, phase := range phases {
		if len(phase) > 0 {
			all.Phases = append(all.Phases, phase)
		}
	}
	return all
}

// Count is the number of requests of all phases.
func (r Recording) Count() int {
	n := 0
	for _, phase := range r.Phases {
		n += len(phase)
	}
	return n
}

// Save writes the recording to a file.
func (r Recording) Save(path string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the recording: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("save the recording: %w", err)
	}
	return nil
}

// Load reads a recording that Save wrote.
func Load(path string) (Recording, error) {
	data, err := os.ReadFile(path) //nolint:gosec // named by the caller
	if err != nil {
		return Recording{}, fmt.Errorf("load the recording: %w", err)
	}
	var r Recording
	if err := json.Unmarshal(data, &r); err != nil {
		return Recording{}, fmt.Errorf("decode the recording: %w", err)
	}
	return r, nil
}
