package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// UserAgent is how the comparison's own requests can be told from the product's.
const UserAgent = "rollcall-demo-comparison"

const (
	pageSize = 100
	maxPage  = 16 << 20
)

// Target is how to read a SCIM service.
type Target struct {
	URL    string
	Token  string
	Client *http.Client
}

type user struct {
	ID          string  `json:"id"`
	UserName    string  `json:"userName"`
	DisplayName string  `json:"displayName"`
	Title       string  `json:"title"`
	Active      bool    `json:"active"`
	Name        person  `json:"name"`
	Emails      []email `json:"emails"`
	Enterprise  company `json:"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`
}

type person struct {
	GivenName  string `json:"givenName"`
	FamilyName string `json:"familyName"`
}

type email struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type company struct {
	Department     string `json:"department"`
	EmployeeNumber string `json:"employeeNumber"`
}

type group struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	Members     []struct {
		Value string `json:"value"`
	} `json:"members"`
}

// Read reads everything that the target holds.
func (t Target) Read(ctx context.Context) (State, error) {
	s := newState()
	users, err := list[user](ctx, t, "/Users")
	if err != nil {
		return State{}, err
	}
	groups, err := list[group](ctx, t, "/Groups")
	if err != nil {
		return State{}, err
	}
	for _, u := range users {
		if _, twice := s.Users[u.UserName]; twice {
			s.Faults = append(s.Faults, "there are two users "+u.UserName)
		}
		s.Users[u.UserName], s.Names[u.ID] = u.plain(), u.UserName
	}
	for _, g := range groups {
		if _, twice := s.Groups[g.DisplayName]; twice {
			s.Faults = append(s.Faults, "there are two groups "+g.DisplayName)
		}
		s.Names[g.ID] = g.DisplayName
	}
	for _, g := range groups {
		s.Groups[g.DisplayName] = g.members(s.Names)
	}
	return s, nil
}

func (u user) plain() User {
	values := map[string]string{
		"name.givenName": u.Name.GivenName, "name.familyName": u.Name.FamilyName,
		"displayName": u.DisplayName, "title": u.Title,
		"department": u.Enterprise.Department, "employeeNumber": u.Enterprise.EmployeeNumber,
	}
	for _, e := range u.Emails {
		key := "emails." + e.Type
		values[key] = strings.TrimSpace(values[key] + " " + e.Value)
	}
	for name, value := range values {
		if value == "" {
			delete(values, name)
		}
	}
	return User{Active: u.Active, Attributes: values}
}

func (g group) members(names map[string]string) []string {
	members := make([]string, 0, len(g.Members))
	for _, m := range g.Members {
		name := names[m.Value]
		if name == "" {
			name = "the unknown resource " + m.Value
		}
		members = append(members, name)
	}
	slices.Sort(members)
	return members
}

var (
	errStatus     = errors.New("unexpected status")
	errIncomplete = errors.New("the list is incomplete")
)

// list reads all pages.
func list[R any](ctx context.Context, t Target, path string) ([]R, error) {
	var all []R
	for {
		var page struct {
			Total     int `json:"totalResults"`
			Resources []R `json:"Resources"`
		}
		if err := t.get(ctx, fmt.Sprintf("%s?startIndex=%d&count=%d", path, len(all)+1, pageSize), &page); err != nil {
			return nil, fmt.Errorf("list %s of the target: %w", path, err)
		}
		all = append(all, page.Resources...)
		if len(all) >= page.Total {
			return all, nil
		}
		if len(page.Resources) == 0 {
			return nil, fmt.Errorf("list %s of the target: %w: %d of %d", path, errIncomplete, len(all), page.Total)
		}
	}
}

func (t Target) get(ctx context.Context, path string, into any) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+t.Token)
	req.Header.Set("Accept", "application/scim+json")
	req.Header.Set("User-Agent", UserAgent)
	res, err := t.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%w %s", errStatus, res.Status)
	}
	return json.NewDecoder(io.LimitReader(res.Body, maxPage)).Decode(into)
}
