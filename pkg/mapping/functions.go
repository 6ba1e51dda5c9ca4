package mapping

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Function documents one function or macro that expressions can use.
type Function struct {
	Name      string
	Signature string
	Meaning   string
	Example   string // an expression over the example user of the documentation
	Result    string // what Example evaluates to, as JSON
}

// Functions returns what expressions can use, in the order of the documentation.
// Every example is run by a test. The functions that stand in the code but not
// here are CEL's operators and conversions.
func Functions() []Function {
	return []Function{
		// What identity people miss.
		{"cn", "cn(dn string) string", "The cn of a distinguished name's first part, otherwise that part's first value.", `cn(user.manager)`, `"Jones, Bob"`},
		{"localPart", "localPart(mail string) string", "What stands before the last @; the whole text when there is none.", `localPart(user.mail)`, `"zoe.muller"`},
		{"normalizeDiacritics", "normalizeDiacritics(s string) string", "Latin letters without their accents, ligatures spelled out.", `normalizeDiacritics(user.cn)`, `"Zoe Muller"`},
		{"formatDate", "formatDate(time string, layout string) string", "A directory's time (generalized time, or Active Directory's 100 ns since 1601) in UTC. Layout: yyyy yy MM M dd d HH mm ss SSS, other letters in single quotes; or one of the words date, datetime, unix.", `formatDate(user.createTimestamp, "dd.MM.yyyy")`, `"31.01.2024"`},
		// Presence.
		{"has", "has(user.x) bool", "Whether the entry has the attribute.", `has(user.mobile)`, `false`},
		{"orValue", "user.?x.orValue(string) string", "The first value, or another one when absent.", `user.?mobile.orValue("none")`, `"none"`},
		{"or", "user.?x.or(user.?y)", "The first of both that is there, as an optional; absent when neither is.", `user.?mobile.or(user.?telephoneNumber)`, `"+49 30 1234"`},
		{"hasValue", "user.?x.hasValue() bool", "The same as has.", `user.?mail.hasValue()`, `true`},
		{"optMap", "user.?x.optMap(v, expression)", "Computes with the value when it is there.", `user.?mail.optMap(m, "smtp:" + m)`, `"smtp:zoe.muller@example.com"`},
		// Text.
		{"lowerAscii", "s.lowerAscii() string", "A to Z in lower case.", `user.uid.lowerAscii()`, `"zmuller"`},
		{"upperAscii", "s.upperAscii() string", "a to z in upper case.", `user.uid.upperAscii()`, `"ZMULLER"`},
		{"trim", "s.trim() string", "Without white space at both ends.", `" a ".trim()`, `"a"`},
		{"replace", "s.replace(old string, new string) string", "Every old replaced by new.", `user.telephoneNumber.replace(" ", "")`, `"+49301234"`},
		{"split", "s.split(separator string) list", "The parts between separators.", `user.mail.split("@")`, `["zoe.muller","example.com"]`},
		{"join", "list.join(separator string) string", "The items in one text.", `user.all.employeeType.join(", ")`, `"staff, admin"`},
		{"substring", "s.substring(from int, to int) string", "The characters from (counted from 0) up to, not including, to.", `user.uid.substring(0, 3)`, `"ZMu"`},
		{"charAt", "s.charAt(index int) string", "One character.", `user.sn.charAt(0)`, `"M"`},
		{"indexOf", "s.indexOf(part string) int", "Where part first stands, -1 when nowhere.", `user.mail.indexOf("@")`, `10`},
		{"lastIndexOf", "s.lastIndexOf(part string) int", "Where part last stands, -1 when nowhere.", `user.mail.lastIndexOf(".")`, `18`},
		{"reverse", "s.reverse() string", "The characters backwards.", `"abc".reverse()`, `"cba"`},
		{"format", "s.format(list) string", "Fills %s, %d and the like from the list.", `"%s (%s)".format([user.cn, user.uid])`, `"Zoë Müller (ZMuller)"`},
		{"strings.quote", "strings.quote(s string) string", "In double quotes, with escapes.", `strings.quote("a")`, `"\"a\""`},
		{"startsWith", "s.startsWith(part string) bool", "Whether the text begins with part.", `user.mail.startsWith("zoe")`, `true`},
		{"endsWith", "s.endsWith(part string) bool", "Whether the text ends with part.", `user.mail.endsWith("@example.com")`, `true`},
		{"contains", "s.contains(part string) bool", "Whether part stands in the text.", `user.dn.contains("ou=people")`, `true`},
		{"matches", "s.matches(pattern string) bool", "Whether an RE2 pattern matches somewhere.", `user.uid.matches("^[A-Za-z]+$")`, `true`},
		{"regex.replace", "regex.replace(s, pattern, replacement string) string", "Every match replaced; \\1 is the first group.", `regex.replace(user.telephoneNumber, "[^0-9+]", "")`, `"+49301234"`},
		{"regex.extract", "regex.extract(s, pattern string)", "The first match, or its group, as an optional.", `regex.extract(user.dn, "ou=([^,]+)").orValue("")`, `"people"`},
		{"regex.extractAll", "regex.extractAll(s, pattern string) list", "All matches.", `regex.extractAll(user.telephoneNumber, "[0-9]+")`, `["49","30","1234"]`},
		{"size", "size(text or list) int", "Number of characters or items.", `size(user.all.employeeType)`, `2`},
		// Lists.
		{"in", "item in list", "Whether the list holds the item.", `"staff" in user.all.employeeType`, `true`},
		{"exists", "list.exists(v, condition) bool", "Whether an item fulfils the condition.", `user.groups.exists(g, g.startsWith("wiki-"))`, `true`},
		{"all", "list.all(v, condition) bool", "Whether every item does.", `user.groups.all(g, g != "external")`, `true`},
		{"exists_one", "list.exists_one(v, condition) bool", "Whether exactly one item does.", `user.groups.exists_one(g, g == "staff")`, `true`},
		{"filter", "list.filter(v, condition) list", "The items that fulfil the condition.", `user.groups.filter(g, g.startsWith("wiki-"))`, `["wiki-editors"]`},
		{"map", "list.map(v, expression) list", "The expression for each item.", `user.all.employeeType.map(t, t.upperAscii())`, `["STAFF","ADMIN"]`},
		{"first", "list.first()", "The first item, as an optional.", `user.all.employeeType.first()`, `"staff"`},
		{"last", "list.last()", "The last item, as an optional.", `user.all.employeeType.last()`, `"admin"`},
		{"distinct", "list.distinct() list", "Every item once.", `["a", "a", "b"].distinct()`, `["a","b"]`},
		{"sort", "list.sort() list", "The items in order.", `user.all.employeeType.sort()`, `["admin","staff"]`},
		{"slice", "list.slice(from int, to int) list", "The items from up to, not including, to.", `[1, 2, 3].slice(0, 2)`, `[1,2]`},
		// Conversions.
		{"string", "string(value) string", "A number or a bool as text.", `string(size(user.groups))`, `"2"`},
		{"int", "int(value) int", "A text or a number as a whole number.", `int(user.employeeNumber) + 1`, `43`},
		{"double", "double(value) double", "A text or a number as a number.", `double("1.5")`, `1.5`},
		{"math.bitAnd", "math.bitAnd(a int, b int) int", "The bits that both have, for flags such as userAccountControl.", `math.bitAnd(514, 2) != 0`, `true`},
		{"bool", "bool(text) bool", "true and false, in text.", `bool("true")`, `true`},
	}
}

// identityFunctions declares the functions that CEL does not have.
func identityFunctions() []cel.EnvOption {
	text := []*cel.Type{cel.StringType}
	return []cel.EnvOption{
		cel.Function("cn", cel.Overload("cn_string", text, cel.StringType, unary(commonName))),
		cel.Function("localPart", cel.Overload("local_part_string", text, cel.StringType, unary(localPart))),
		cel.Function("normalizeDiacritics", cel.Overload("normalize_diacritics_string", text, cel.StringType, unary(normalizeDiacritics))),
		cel.Function("formatDate", cel.Overload("format_date_string_string",
			[]*cel.Type{cel.StringType, cel.StringType}, cel.StringType, binary(formatDate))),
		cel.CostModel(
			scanCost("cn_string"),
			scanCost("local_part_string"),
			scanCost("normalize_diacritics_string"),
			scanCost("format_date_string_string"),
		),
	}
}

// scanCost charges for reading the argument and for making the result.
func scanCost(overload string) cost.OverloadModel {
	return cost.Overload(overload, cost.EvalCost(cost.Sum(
		cost.Const(cost.CallCost),
		cost.StringScan(cost.Length(cost.Arg(0))),
		cost.Length(cost.Result()),
	)))
}

func unary(f func(string) (string, error)) cel.OverloadOpt {
	return cel.UnaryBinding(func(v ref.Val) ref.Val {
		s, ok := v.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		return result(f(string(s)))
	})
}

func binary(f func(a, b string) (string, error)) cel.OverloadOpt {
	return cel.BinaryBinding(func(v, w ref.Val) ref.Val {
		a, ok := v.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		b, ok := w.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(w)
		}
		return result(f(string(a), string(b)))
	})
}

func result(s string, err error) ref.Val {
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(s)
}
