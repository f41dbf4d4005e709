package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wrongFlag is what commands make of a flag that they don't know or can't read.
func wrongFlag(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var unreadable *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		return usageError{unknownFlag(c, unknown.GetSpecifiedName())}
	case errors.As(err, &unreadable):
		return usageError{unreadableFlag(unreadable)}
	}
	return usageError{err}
}

// unknownFlag names the nearest right flag.
func unknownFlag(c *cobra.Command, wrong string) error {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest(wrong, names); near != "" {
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", wrong, near)
	}
	return fmt.Errorf("unknown flag --%s; %s --help lists them", wrong, c.CommandPath())
}

// asked are the values that flags of a type take.
var asked = map[string]string{
	"duration": "a time with its unit, such as 500ms, 30s or 5m",
	"int":      "a whole number",
	"int64":    "a whole number",
	"uint64":   "a whole number, 0 or more",
	"intSlice": "whole numbers with commas between them",
	"bool":     "true or false",

	"stringToInt": "names with whole numbers, such as read=3,write=1",
}

// unreadableFlag says which values the flag takes.
func unreadableFlag(err *pflag.InvalidValueError) error {
	f := err.GetFlag()
	if want, known := asked[f.Value.Type()]; known {
		return fmt.Errorf("--%s takes %s; got %.64q", f.Name, want, err.GetValue())
	}
	return err
}
