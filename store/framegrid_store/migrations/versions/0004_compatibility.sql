-- A migration that takes away what older programs use raises oldest_program to its own number, in its own SQL.
CREATE TABLE framegrid.compatibility (
    oldest_program TEXT NOT NULL,
    PRIMARY KEY (oldest_program)
);
INSERT INTO framegrid.compatibility VALUES ('0004');
COMMENT ON TABLE framegrid.compatibility IS 'One row: how far a program may be rolled back while the schema stays';
COMMENT ON COLUMN framegrid.compatibility.oldest_program IS 'Oldest revision whose programs work with this schema';
