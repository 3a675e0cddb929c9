-- sum() of bigint goes by way of numeric, and a cast back: of thirteen columns a quarter of what a view costs.
CREATE AGGREGATE framegrid.total(BIGINT) (
    SFUNC = int8pl, COMBINEFUNC = int8pl, STYPE = BIGINT, INITCOND = '0', PARALLEL = SAFE
);
COMMENT ON AGGREGATE framegrid.total(BIGINT) IS 'Sum as bigint, exact; an error where it does not fit, 0 of no rows';
