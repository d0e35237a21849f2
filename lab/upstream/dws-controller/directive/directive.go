// Package directive checks #DW lines against the rules of DWDirectiveRules.
//
// This is a fake DataWorkflowServices, written for the lab.
package directive

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"lab/dws/api"
)

// Match says that the rule applies to the directive with this index.
type Match struct {
	Index int
	Rule  api.RuleSpec
}

// Check returns the rules that apply to each of the lines, or what is wrong with the first bad one.
func Check(rules []api.RuleSpec, lines []string) ([]Match, error) {
	var matches []Match
	seen := map[string]bool{}
	for index, line := range lines {
		command, arguments, err := split(line)
		if err != nil {
			return nil, err
		}
		known := false
		for _, rule := range rules {
			if rule.Command != command {
				continue
			}
			if err := obeys(rule, arguments, seen); err != nil {
				return nil, fmt.Errorf("%w, in '%s'", err, line)
			}
			known = true
			matches = append(matches, Match{index, rule})
		}
		if !known {
			return nil, fmt.Errorf("no rule knows the directive '%s'", line)
		}
	}
	return matches, nil
}

// split takes "#DW COMMAND KEY=VALUE FLAG ..." apart; a flag's value is "true".
func split(line string) (string, map[string]string, error) {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "#DW" {
		return "", nil, fmt.Errorf("'%s' is not '#DW COMMAND ...'", line)
	}
	arguments := map[string]string{}
	for _, word := range words[2:] {
		key, value, given := strings.Cut(word, "=")
		if !given {
			value = "true"
		}
		if _, twice := arguments[key]; twice {
			return "", nil, fmt.Errorf("argument '%s' is given twice in '%s'", key, line)
		}
		arguments[key] = value
	}
	return words[1], arguments, nil
}

// obeys checks one directive's arguments; seen holds the values that rules want to be unique over all directives.
func obeys(rule api.RuleSpec, arguments map[string]string, seen map[string]bool) error {
	met := map[int]bool{}
	for key, value := range arguments {
		index, err := find(rule.RuleDefs, key)
		if err != nil {
			return err
		}
		definition := rule.RuleDefs[index]
		if err := fits(definition, key, value); err != nil {
			return err
		}
		if group := definition.UniqueWithin; group != "" {
			if seen[group+"/"+value] {
				return fmt.Errorf("'%s' is used twice within %s", value, group)
			}
			seen[group+"/"+value] = true
		}
		met[index] = true
	}
	for index, definition := range rule.RuleDefs {
		if definition.IsRequired && !met[index] {
			return fmt.Errorf("argument '%s' is missing", definition.Key)
		}
	}
	return nil
}

func find(definitions []api.RuleDef, key string) (int, error) {
	for index, definition := range definitions {
		pattern, err := regexp.Compile(definition.Key)
		if err != nil {
			return 0, fmt.Errorf("the rule's key '%s' is no regular expression", definition.Key)
		}
		if pattern.MatchString(key) {
			return index, nil
		}
	}
	return 0, fmt.Errorf("argument '%s' is not known", key)
}

func fits(definition api.RuleDef, key, value string) error {
	if definition.IsValueRequired && value == "" {
		return fmt.Errorf("argument '%s' needs a value", key)
	}
	switch definition.Type {
	case "integer":
		return integer(definition, key, value)
	case "bool":
		if definition.Pattern != "" && !strings.EqualFold(value, "true") && !strings.EqualFold(value, "false") {
			return fmt.Errorf("argument '%s' is neither true nor false: '%s'", key, value)
		}
		return nil
	case "string":
		return matches(definition.Pattern, key, value)
	}
	return fmt.Errorf("the rule's type '%s' is not known", definition.Type)
}

func integer(definition api.RuleDef, key, value string) error {
	number, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("argument '%s' is no whole number: '%s'", key, value)
	}
	if definition.Max != 0 && number > definition.Max || definition.Min != 0 && number < definition.Min {
		return fmt.Errorf("argument '%s' is out of bounds: %d", key, number)
	}
	return nil
}

func matches(pattern, key, value string) error {
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("the rule's pattern '%s' is no regular expression", pattern)
	}
	if !compiled.MatchString(value) {
		return fmt.Errorf("argument '%s' can't be '%s'", key, value)
	}
	return nil
}
