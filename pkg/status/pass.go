package status

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Pass is the result of the last full read of a source, which its detector keeps.
// What is held and the warnings are those of now; before the first full read there
// may be warnings alone, and At is zero.
type Pass struct {
	At         time.Time `json:"at"`
	Mode       string    `json:"mode"`             // of detection
	Server     string    `json:"server,omitempty"` // that was read
	Entries    int       `json:"entries"`
	Users      int       `json:"users"`  // in scope
	Groups     int       `json:"groups"` // in scope
	Published  int       `json:"published"`
	Held       int       `json:"held"`
	HeldReason string    `json:"held_reason,omitempty"`
	// Warnings say what is probably wrong with the source or its configuration, each
	// with the key and the remedy, for as long as it holds.
	Warnings   []string `json:"warnings,omitempty"`
	TookMillis int64    `json:"took_ms"`
	// Outage is why the source is not followed; nil while it is.
	Outage *Outage `json:"outage,omitempty"`
}

// Outage says since when a source is not followed, and why. It ends with the next full
// read.
type Outage struct {
	Since  time.Time    `json:"since"` // the first failure after the last full read
	Reason OutageReason `json:"reason"`
	// Error is the last one, with the remedy. It may name the server, never a password.
	Error string `json:"error"`
}

// OutageReason is what kind of trouble an outage is.
type OutageReason string

// The reasons of outages.
const (
	OutageUnreachable   OutageReason = "unreachable"   // the server does not answer, or hangs up
	OutageCredentials   OutageReason = "credentials"   // the server refuses the account or its password
	OutageConfiguration OutageReason = "configuration" // it names attributes that the schema does not know
	OutageFailed        OutageReason = "failed"        // anything else; the error says what
)

// OutageReasons are all reasons of outages.
var OutageReasons = []OutageReason{OutageUnreachable, OutageCredentials, OutageConfiguration, OutageFailed}

// Keep makes p the last pass of a source.
func (p Pass) Keep(ctx context.Context, b *bus.Bus, source string) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the pass of %s: %w", source, err)
	}
	return b.PutText(ctx, provisioningv1.BucketSources, provisioningv1.PassKey(source), string(data), 0)
}

// LastPass is the result of the last full read of a source; bus.ErrNotFound before
// the first.
func LastPass(ctx context.Context, b *bus.Bus, source string) (Pass, error) {
	text, err := b.Text(ctx, provisioningv1.BucketSources, provisioningv1.PassKey(source))
	if err != nil {
		return Pass{}, err
	}
	var p Pass
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return Pass{}, fmt.Errorf("decode the last pass of %s: %w", source, err)
	}
	return p, nil
}
