import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.OffsetDateTime;

/** Runs the statements on standard input, one per line, over JDBC; the first two lines are URL and password. */
class Query {
    public static void main(String[] arguments) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var output = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        try (Connection connection = DriverManager.getConnection(input.readLine(), "bi", input.readLine())) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                try (Statement statement = connection.createStatement()) {
                    if (statement.execute(line)) print(statement.getResultSet(), output);
                    output.println("end");
                } catch (SQLException error) {
                    output.println("error\t" + error.getSQLState());
                }
            }
        }
    }

    private static void print(ResultSet rows, PrintStream output) throws SQLException {
        ResultSetMetaData columns = rows.getMetaData();
        while (rows.next()) {
            var text = new StringBuilder("row");
            for (int place = 1; place <= columns.getColumnCount(); place++) {
                Object value = columns.getColumnTypeName(place).equals("timestamptz")
                    ? rows.getObject(place, OffsetDateTime.class).toInstant()
                    : rows.getObject(place);
                text.append('\t').append(value == null ? "null" : value.getClass().getSimpleName() + ":" + value);
            }
            output.println(text);
        }
    }
}
