// Package vector stores vectors of numbers in few bytes, and finds the nearest of
// them in memory.
//
// Encode and Decode are the formats of stored vectors. An Index holds vectors of one
// dimension as they are stored, with a sketch of each, and finds those with the greatest
// cosine to a query in two stages: the sketches choose a shortlist, whose cosines are
// then computed from the stored numbers.
//
// The package knows neither databases nor what the vectors were made of.
package vector
