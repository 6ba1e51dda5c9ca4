package scim_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

func TestUnitEqualTo(t *testing.T) {
	t.Parallel()
	work := `[{"type":"work","value":"a@x","primary":true}]`
	tests := []struct {
		name, path, want, observed string
		equal                      bool
	}{
		{"same string", "title", `"Boss"`, `"Boss"`, true},
		{"other string", "title", `"Boss"`, `"boss"`, false},
		{"userName in another case", "userName", `"Ada"`, `"ada"`, true},
		{"boolean as string", "active", `true`, `"True"`, true},
		{"other boolean as string", "active", `true`, `"False"`, false},
		{"number as string", "urn:acme:scim:2.0:X:n", `3`, `"3.0"`, true},
		{"string as number", enterprise + ":employeeNumber", `"7"`, `7`, true},
		{"leading zero", enterprise + ":employeeNumber", `"07"`, `7`, false},
		{"absent and null", "title", `null`, `null`, true},
		{"absent and empty array", "emails", `null`, `[]`, true},
		{"absent and an element without a value", "emails", `null`, `[{"type":"work","primary":true,"value":""}]`, true},
		{"an element without a value more", "emails", `[{"type":"work","value":"a"}]`, `[{"type":"work","value":"a"},{"value":""}]`, true},
		{"an element without a value is no other one", "emails", `[{"type":"work","value":"a"}]`, `[{"type":"work","value":""}]`, false},
		{"value and nothing", "title", `"x"`, `null`, false},
		{"nothing and value", "title", `null`, `"x"`, false},
		{"server adds keys", enterprise + ":manager", `{"value":"1"}`, `{"value":"1","displayName":"Eve","$ref":"u"}`, true},
		{"manager flattened", enterprise + ":manager", `{"value":"1"}`, `"1"`, true},
		{"other manager", enterprise + ":manager", `{"value":"1"}`, `{"value":"2"}`, false},
		{"mail with display", "emails", work, `[{"type":"work","value":"A@x","primary":true,"display":"x"}]`, true},
		{"target returns no primary", "emails", work, `[{"type":"work","value":"a@x"}]`, true},
		{"primary as string", "emails", work, `[{"type":"Work","value":"a@x","primary":"true"}]`, true},
		{"other type", "emails", work, `[{"type":"home","value":"a@x","primary":true}]`, false},
		{"further value", "emails", work, `[{"type":"work","value":"a@x","primary":true},{"type":"home","value":"b@x"}]`, false},
		{"other order", "emails", `[{"type":"work","value":"a","primary":true},{"type":"home","value":"b"}]`, `[{"type":"home","value":"b","primary":false},{"type":"work","value":"a","primary":true}]`, true},
		{"other primary", "emails", `[{"type":"work","value":"a","primary":true},{"type":"home","value":"b"}]`, `[{"type":"home","value":"b","primary":true},{"type":"work","value":"a"}]`, false},
		{"the same value twice", "emails", `[{"type":"a","value":"x"},{"type":"b","value":"x"}]`, `[{"type":"a","value":"x"},{"type":"a","value":"x"}]`, false},
		{"simple array", "urn:acme:scim:2.0:X:tags", `["a","b"]`, `["b","a"]`, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u := scim.Unit{Path: test.path, Value: anyJSON(t, test.want)}
			if got := u.EqualTo(anyJSON(t, test.observed)); got != test.equal {
				t.Errorf("EqualTo = %v, want %v", got, test.equal)
			}
		})
	}
}

func anyJSON(t *testing.T, s string) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(s)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestUnitHash(t *testing.T) {
	t.Parallel()
	key := []byte("key")
	hash := func(u scim.Unit) string { return string(u.Hash(key)) }
	base := scim.Unit{Path: "title", Value: "Boss"}
	if got := base.Hash(key); len(got) != 16 {
		t.Errorf("hash of %d bytes, want 16", len(got))
	}
	if hash(base) != hash(scim.Unit{Path: "title", Value: "Boss"}) {
		t.Error("equal units have different hashes")
	}
	if bytes.Equal(base.Hash(key), base.Hash([]byte("other"))) {
		t.Error("the key makes no difference")
	}
	for _, other := range []scim.Unit{{"title", "boss"}, {"nickName", "Boss"}, {"title", nil}, {"title", []any{"Boss"}}, {"titl", `e"Boss"`}} {
		if hash(base) == hash(other) {
			t.Errorf("%v has the hash of %v", other, base)
		}
	}
	a := scim.Unit{Path: "m", Value: map[string]any{"a": 1, "b": 2}}
	b := scim.Unit{Path: "m", Value: map[string]any{"b": 2, "a": 1}}
	if hash(a) != hash(b) {
		t.Error("the order of keys makes a difference")
	}
}

func TestMergeForeign(t *testing.T) {
	t.Parallel()
	const mail = `emails[type eq "work"].value`
	observed := `[{"type":"work","value":"old@x","primary":true},{"type":"home","value":"h@x","primary":true,"$ref":"r","display":null}]`
	tests := []struct {
		name, path, value string
		mapped            []string
		want              string
		merged            bool
	}{
		{"keeps what nobody mapped", "emails", `[{"type":"work","value":"w@x","primary":true}]`, []string{mail}, `[{"type":"work","value":"w@x","primary":true},{"type":"home","value":"h@x"}]`, true},
		{"clears what is mapped and keeps the rest", "emails", `null`, []string{mail}, `[{"type":"home","value":"h@x","primary":true}]`, true},
		{"both are mapped", "emails", `[{"type":"work","value":"w@x"}]`, []string{mail, `emails[type eq "HOME"].value`}, `[{"type":"work","value":"w@x"}]`, false},
		{"a path without filter owns everything", "emails", `[{"value":"w@x"}]`, []string{"emails.value"}, `[{"value":"w@x"}]`, false},
		{"without the mapping the values tell", "emails", `[{"type":"home","value":"n@x"}]`, nil, `[{"type":"home","value":"n@x"},{"type":"work","value":"old@x"}]`, true},
		{"single-valued", "title", `"x"`, nil, `"x"`, false},
		{"members are never foreign", "members", `[{"value":"1"}]`, nil, `[{"value":"1"}]`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u := scim.Unit{Path: test.path, Value: anyJSON(t, test.value)}
			got, merged := u.MergeForeign(anyJSON(t, observed), test.mapped...)
			if diff := cmp.Diff(anyJSON(t, test.want), got.Value); diff != "" || merged != test.merged {
				t.Errorf("merged %v, want %v; value (-want +got):\n%s", merged, test.merged, diff)
			}
		})
	}
}

func TestResourceValue(t *testing.T) {
	t.Parallel()
	r := &scim.Resource{Attributes: map[string]any{
		"USERNAME": "ada", "name": map[string]any{"GivenName": "Ada"}, "active": false,
		"emails":                   []any{map[string]any{"type": "home", "value": "h"}, map[string]any{"type": "Work", "value": "w"}},
		enterprise:                 map[string]any{"manager": map[string]any{"value": "m"}},
		"urn:acme:x:2.0:X:flatten": "yes", "title": nil,
	}}
	for path, want := range map[string]any{
		"userName": "ada", "name.givenName": "Ada", "active": false, `emails[type eq "work"].value`: "w",
		"emails.value": []any{"h", "w"}, enterprise + ":manager.value": "m", "urn:acme:x:2.0:X:flatten": "yes",
		"title": nil, "nickName": nil, "name.familyName": nil, `emails[type eq "other"].value`: nil, "not a path": nil,
	} {
		got, ok := r.Value(path)
		if diff := cmp.Diff(want, got); diff != "" || ok != (want != nil) {
			t.Errorf("Value(%s) = %v, %v (-want +got):\n%s", path, got, ok, diff)
		}
	}
}
