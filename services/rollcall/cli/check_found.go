package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
)

// surveyed is what was found of a source; found is nil where it could not be read.
type surveyed struct {
	findings []finding
	found    *detector.Found
}

// survey reads a source and counts what is in scope.
func survey(ctx context.Context, cfg *connection.Config, name string) *surveyed {
	what := "source " + name
	s, err := detector.Probe(ctx, cfg, name)
	if err != nil {
		return &surveyed{findings: []finding{result(what, "", err)}}
	}
	out := &surveyed{found: &s.Found, findings: []finding{
		{What: what, OK: true, Detail: s.Server},
		{What: what, OK: true, Detail: "in scope: " + counted(s.Found.InScope)},
	}}
	for _, doubt := range s.Doubts {
		out.findings = append(out.findings, finding{What: what, OK: true, Warning: true, Detail: doubt})
	}
	for _, w := range s.Found.Warnings {
		out.findings = append(out.findings, finding{What: what, Detail: w})
	}
	return out
}

// counted is a scope in words: 120 users (3 disabled), 7 groups.
func counted(n detector.InScope) string {
	return fmt.Sprintf("%d users (%d disabled), %d groups", n.Users, n.Disabled, n.Groups)
}

// inScope is what a connection has in scope; nothing is said where the source could
// not be read.
func (s *surveyed) inScope(c *connection.Connection) []finding {
	if s == nil || s.found == nil {
		return nil
	}
	return []finding{{What: "connection " + c.Name, OK: true, Detail: "in scope: " + counted(s.found.Connections[c.Name])}}
}

// checkTarget reads how many users and groups a target has, which proves its address
// and the credentials, and compares the mapping with what it says about itself.
func checkTarget(ctx context.Context, c *connection.Connection) []finding {
	what := "target " + c.Name
	client, err := worker.NewReader(c)
	if err != nil {
		return []finding{result(what, "", err)}
	}
	defer client.Close()
	if said, err := client.Discover(ctx); err == nil { // what it does not say is taken from the profile
		client.Follow(client.Profile().With(said, scim.Learned{}))
	}
	kinds := []scim.Kind{scim.KindUser}
	if c.Groups != nil {
		kinds = append(kinds, scim.KindGroup)
	}
	var totals []string
	for _, kind := range kinds {
		n, said, err := client.Count(ctx, kind)
		if err != nil {
			return []finding{result(what, "", withHint(c, err))}
		}
		number := "an unknown number of"
		if said {
			number = strconv.Itoa(n)
		}
		totals = append(totals, number+" "+strings.ToLower(kind.String())+"s")
	}
	detail := c.Target.URL + " answers; it has " + strings.Join(totals, ", ")
	findings := append([]finding{result(what, detail, nil)}, checkMapping(ctx, what, c, client)...)
	if ahead, said, err := client.Clock(ctx); said && err == nil {
		findings = append(findings, skewed(what, ahead)...)
	}
	return findings
}

// checkMapping compares the attributes of the mapping with those that the target has.
func checkMapping(ctx context.Context, what string, c *connection.Connection, client *scim.Client) []finding {
	said, err := client.Discover(ctx)
	if err != nil {
		return []finding{{What: what, OK: true, Warning: true, Detail: fmt.Sprintf("the target does not say what it can do: %v", err)}}
	}
	var findings []finding
	unknown, unsure := c.CheckAttributes(said)
	for _, line := range unknown {
		findings = append(findings, finding{What: what, Detail: line})
	}
	for _, line := range unsure {
		findings = append(findings, finding{What: what, OK: true, Warning: true, Detail: line})
	}
	return findings
}

// withHint adds the key that is probably wrong to a target's refusal.
func withHint(c *connection.Connection, err error) error {
	key := "connections." + c.Name + ".target."
	switch scim.Classify(err) {
	case scim.Unauthorized:
		return fmt.Errorf("%w; check %sauth", err, key)
	case scim.Forbidden:
		return fmt.Errorf("%w; give the credentials at %sauth the right to read users and groups", err, key)
	case scim.Gone, scim.NoEndpoint, scim.Misrouted, scim.Redirected, scim.Unread, scim.Unsupported:
		return fmt.Errorf("%w; check %surl: the address ends where /Users begins", err, key)
	case scim.Temporary:
		return fmt.Errorf("%w; check %surl, and that the target runs and can be reached from here", err, key)
	default:
		return err
	}
}
